// DeltaNet on Views.
#include "architectures/delta_net/rule.hpp"
#include "attention/attention_class.hpp"
#include "attention/state_attention.hpp"

namespace bsbr::attention {

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::delta_net>) {
  return class_of<Real, StateAttention<Real, DeltaNetRule<Real>>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::delta_net>);
template AttentionClass<double> attention_class(Tag<Architecture::delta_net>);

}  // namespace bsbr::attention
