// The norm of heads' results, output_norm: y = u / √(mean(u²) + 1e-5), of each head of each token by itself.
#pragma once

#include <string>

#include "kernels/rows.hpp"

namespace bsbr::kernels {

/// y = rms_norm(u). u and y: [batch, tokens, heads · width], which may be the same array.
template <class Real>
void norm_heads(const Execution& execution, const std::string& label, std::int64_t heads, const Array<Real***>& u,
                const Array<Real***>& y) {
  const auto tokens = static_cast<std::int64_t>(u.extent(1));
  const int width = static_cast<int>(static_cast<std::int64_t>(u.extent(2)) / heads);
  Kokkos::parallel_for(
      label, team_policy(execution, static_cast<std::int64_t>(u.extent(0)) * tokens, 0),
      KOKKOS_LAMBDA(const TeamMember& member) {
        const auto team = as_team(member);
        const std::int64_t row = member.league_rank() / tokens, t = member.league_rank() % tokens;
        for (std::int64_t head = 0; head < heads; ++head)
          rms_norm(team, width, &u(row, t, head * width), &y(row, t, head * width));
      });
}

/// du, of dy, the gradient of y = rms_norm(u). All have that shape; du and dy may be the same array.
template <class Real>
void norm_heads_gradient(const Execution& execution, const std::string& label, std::int64_t heads,
                         const Array<Real***>& u, const Array<Real***>& dy, const Array<Real***>& du) {
  const auto tokens = static_cast<std::int64_t>(u.extent(1));
  const int width = static_cast<int>(static_cast<std::int64_t>(u.extent(2)) / heads);
  Kokkos::parallel_for(
      label, team_policy(execution, static_cast<std::int64_t>(u.extent(0)) * tokens, 0),
      KOKKOS_LAMBDA(const TeamMember& member) {
        const auto team = as_team(member);
        const std::int64_t row = member.league_rank() / tokens, t = member.league_rank() % tokens;
        for (std::int64_t head = 0; head < heads; ++head) {
          const std::int64_t first = head * width;
          rms_norm_gradient(team, width, &u(row, t, first), &dy(row, t, first), &du(row, t, first));
        }
      });
}

}  // namespace bsbr::kernels
