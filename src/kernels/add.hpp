// The sum of two arrays, element by element.
#pragma once

#include "kernels/compat.hpp"

namespace bsbr::kernels {

/// left += right, [elements] both.
template <class Real>
void add(const Execution& execution, const Array<Real*>& left, const Array<const Real*>& right) {
  const auto elements = static_cast<std::int64_t>(left.extent(0));
  constexpr std::int64_t piece = tuning::thread_elements;
  const Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>> pieces(execution, 0,
                                                                               (elements + piece - 1) / piece);
  Kokkos::parallel_for(
      "bsbr::sum::add", pieces, KOKKOS_LAMBDA(const std::int64_t index) {
        [[maybe_unused]] const auto team = as_team(LoneThread{});
        const std::int64_t first = index * piece, end = first + piece < elements ? first + piece : elements;
        for (std::int64_t i = first; i < end; ++i) left(i) += right(i);
      });
}

}  // namespace bsbr::kernels
