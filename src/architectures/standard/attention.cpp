// Standard attention: softmax over all tokens so far.
#include "attention/attention_class.hpp"
#include "attention/softmax_attention.hpp"

namespace bsbr::attention {
namespace {

/// o_t = Σ_{s ≤ t} softmax_s(q_t·k_s / √d) v_s
struct Standard {
  static SoftmaxParameters parameters(const ModelConfig&) { return {}; }
};

}  // namespace

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::standard>) {
  return class_of<Real, SoftmaxAttentionOf<Real, Standard>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::standard>);
template AttentionClass<double> attention_class(Tag<Architecture::standard>);

}  // namespace bsbr::attention
