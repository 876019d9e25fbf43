// Linear attention on Views.
#include "architectures/linear/rule.hpp"
#include "attention/attention_class.hpp"
#include "attention/state_attention.hpp"

namespace bsbr::attention {

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::linear>) {
  return class_of<Real, StateAttention<Real, LinearRule<Real>>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::linear>);
template AttentionClass<double> attention_class(Tag<Architecture::linear>);

}  // namespace bsbr::attention
