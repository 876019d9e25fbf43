#include "attention/linear.hpp"

namespace bsbr::attention {

template class StateAttention<float, LinearRule<float>>;
template class StateAttention<double, LinearRule<double>>;

}  // namespace bsbr::attention
