// How fast this rank multiplies matrices, from which the time of a run can be told beforehand.
#pragma once

#include <optional>

namespace bsbr::apps {

/// Floating-point operations a second of the library's own product on all threads of this rank, measured for a moment;
/// none on a GPU.
template <class Real>
std::optional<double> product_rate();

}  // namespace bsbr::apps
