// Hopfield attention: one retrieval step of a modern Hopfield network (Ramsauer et al. 2020), with values as a separate
// projection.
#include "attention/attention_class.hpp"
#include "attention/softmax_attention.hpp"

namespace bsbr::attention {
namespace {

/// o_t = Σ_{s ≤ t} softmax_s(q_t·k_s / (τ√d)) v_s
struct Hopfield {
  static SoftmaxParameters parameters(const ModelConfig& config) { return {.temperature = config.temperature}; }
};

}  // namespace

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::hopfield>) {
  return class_of<Real, SoftmaxAttentionOf<Real, Hopfield>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::hopfield>);
template AttentionClass<double> attention_class(Tag<Architecture::hopfield>);

}  // namespace bsbr::attention
