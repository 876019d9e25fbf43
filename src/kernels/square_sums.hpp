// Sums of squares of a long array, block by block, in double precision.
#pragma once

#include <Kokkos_Core.hpp>

#include "kernels/compat.hpp"
#include "kernels/scratch.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

inline constexpr int norm_block = tuning::norm_block;

/// Blocks of norm_block elements, of which the last one may have fewer.
inline std::int64_t norm_blocks(std::int64_t elements) { return (elements + norm_block - 1) / norm_block; }

/// sums(b) = Σ x_i² over block b of x [elements]; sums [norm_blocks(elements)]. The order within a block depends on
/// its number of elements only.
template <class Real>
void square_sums(const Execution& execution, const Array<const Real*>& x, const Array<double*>& sums) {
  const auto elements = static_cast<std::int64_t>(x.extent(0));
  if (elements == 0) return;
  Kokkos::parallel_for(
      "bsbr::gradient_norm::square_sums", team_policy(execution, norm_blocks(elements), 0),
      KOKKOS_LAMBDA(const TeamMember& member) {
        const auto team = as_team(member);
        const std::int64_t first = member.league_rank() * std::int64_t{norm_block}, left = elements - first;
        const auto count = static_cast<int>(left < norm_block ? left : norm_block);
        const Real* of_block = x.data() + first;
        const double total = sum<double>(team, count, [=](const int i) {
          const auto element = static_cast<double>(of_block[i]);
          return element * element;
        });
        for_each(team, 1, [&](const int) { sums(member.league_rank()) = total; });
      });
}

}  // namespace bsbr::kernels
