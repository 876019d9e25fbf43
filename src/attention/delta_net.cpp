#include "attention/delta_net.hpp"

namespace bsbr::attention {

template class StateAttention<float, DeltaNetRule<float>>;
template class StateAttention<double, DeltaNetRule<double>>;

}  // namespace bsbr::attention
