// Sliding window attention: softmax over the last tokens.
#include "attention/attention_class.hpp"
#include "attention/softmax_attention.hpp"

namespace bsbr::attention {
namespace {

/// o_t = Σ_{t−w ≤ s ≤ t} softmax_s(q_t·k_s / √d) v_s
struct SlidingWindow {
  static SoftmaxParameters parameters(const ModelConfig& config) { return {.window = config.window_size}; }
};

}  // namespace

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::sliding_window>) {
  return class_of<Real, SoftmaxAttentionOf<Real, SlidingWindow>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::sliding_window>);
template AttentionClass<double> attention_class(Tag<Architecture::sliding_window>);

}  // namespace bsbr::attention
