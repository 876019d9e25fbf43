// Functions of one row: layer norm, bias, GELU, length 1. Most of them ride on the products of panel_chain.hpp.
#pragma once

#include <Kokkos_Core.hpp>
#include <cmath>
#include <string>

#include "kernels/compat.hpp"
#include "kernels/math.hpp"
#include "kernels/scratch.hpp"

namespace bsbr::kernels {

/// y = (x − mean) / √(variance + 1e-5) · weight + bias over `width` numbers; the variance is the biased one. x and y may be the same.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void layer_norm(const Member& team, int width, const Real* x, const Real* weight, const Real* bias, Real* y) {
  const Real mean = sum<Real>(team, width, [&](const int i) { return x[i]; }) / static_cast<Real>(width);
  const Real variance = sum<Real>(team, width, [&](const int i) { return (x[i] - mean) * (x[i] - mean); }) / static_cast<Real>(width);
  const Real factor = Real(1) / std::sqrt(variance + Real(1e-5));
  for_each(team, width, [&](const int i) { y[i] = (x[i] - mean) * factor * weight[i] + bias[i]; });
}

/// y = x
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void copy(const Member& team, int width, const Real* x, Real* y) {
  for_each(team, width, [&](const int i) { y[i] = x[i]; });
}

/// y = x + bias
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void copy_with_bias(const Member& team, int width, const Real* x, const Real* bias, Real* y) {
  for_each(team, width, [&](const int i) { y[i] = x[i] + bias[i]; });
}

/// y += x + bias
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void add_with_bias(const Member& team, int width, const Real* x, const Real* bias, Real* y) {
  for_each(team, width, [&](const int i) { y[i] += x[i] + bias[i]; });
}

/// x = GELU(x + bias)
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void gelu_with_bias(const Member& team, int width, const Real* bias, Real* x) {
  for_each(team, width, [&](const int i) { x[i] = gelu(x[i] + bias[i]); });
}

/// x = x / max(‖x‖, 1e-12). In double precision until the end: no square overflows, and each number is rounded by itself. A factor that was
/// rounded before would make all of a vector too long or too short, and similar vectors all alike; delta_net's state multiplies such errors
/// from token to token.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void normalise(const Member& team, int width, Real* x) {
  const double square = sum<double>(team, width, [&](const int i) { return static_cast<double>(x[i]) * static_cast<double>(x[i]); });
  const double norm = std::sqrt(square);
  const double factor = 1 / (norm < 1e-12 ? 1e-12 : norm);
  for_each(team, width, [&](const int i) { x[i] = static_cast<Real>(static_cast<double>(x[i]) * factor); });
}

/// function(team, row) for every row [width] of an array [batch, rows, width].
template <class Real, class Function>
void for_each_row(const Execution& execution, const std::string& label, const Array<Real***>& array, const Function& function) {
  const auto batch = static_cast<std::int64_t>(array.extent(0)), rows = static_cast<std::int64_t>(array.extent(1));
  Kokkos::parallel_for(
      label, team_policy(execution, batch * rows, 0), KOKKOS_LAMBDA(const TeamMember& member) {
        function(as_team(member), &array(member.league_rank() / rows, member.league_rank() % rows, 0));
      });
}

}  // namespace bsbr::kernels
