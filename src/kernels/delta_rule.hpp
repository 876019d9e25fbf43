// The delta rule of a tile of tokens at once, by the WY form (Schlag et al. 2021; Yang et al. 2024).
//
//     S_t = S_{t−1} + k_tᵀ u_t,   u_t = β (v_t − k_t S_{t−1}) = β (v_t − k_t S) − β Σ_{s < t} (k_t·k_s) u_s
//
// with S the state before the tile: (I + β·tril(K Kᵀ, −1)) U = β (V − K S), a unit lower triangular system.
#pragma once

#include "kernels/scan_tile.hpp"

namespace bsbr::kernels {

namespace detail {

/// u_t += Σ_{first ≤ s < t} factors[s, t] u_s of the rows t in [first, first + rows), one after the other. On a GPU
/// each thread has columns of its own.
template <class Real>
inline void substitute(const SerialTeam& team, int first, int rows, int columns, const Real* factors, int stride,
                       Real* u) {
  for (int t = first + 1; t < first + rows; ++t) {
    for (int s = first; s < t; ++s) {
      const Real factor = factors[s * stride + t];
      for_each(team, columns, [&](const int i) { u[t * columns + i] += factor * u[s * columns + i]; });
    }
  }
}

template <class Real>
KOKKOS_INLINE_FUNCTION void substitute(const TeamMember& team, int first, int rows, int columns, const Real* factors,
                                       int stride, Real* u) {
  for_each(team, columns, [&](const int i) {
    for (int t = first + 1; t < first + rows; ++t) {
      for (int s = first; s < t; ++s) u[t * columns + i] += factors[s * stride + t] * u[s * columns + i];
    }
  });
}

}  // namespace detail

/// tile.values: v → u, by forward substitution in blocks of rows. tile.scores holds k_s·k_t behind the queries'
/// columns; they are used up.
template <class Real, class Tile>
KOKKOS_INLINE_FUNCTION void solve_delta_rule(const Team& team, Real beta, int count, const Tile& tile) {
  constexpr int stride = Tile::score_stride, step = tuning::delta_rule_rows;
  const int columns = tile.stride;
  Real *u = tile.values, *predicted = tile.output;
  Real* factors = tile.scores + Tile::query_columns;  // [s, t]

  // u_t = β (v_t − k_t S)
  detail::apply_running_state(team, 0, count, columns, LeftFactor<Real>{tile.keys, padded<Real>(tile.key_width), 1},
                              tile);
  for_each(team, count * columns, [&](const int i) { u[i] = beta * (u[i] - predicted[i]); });

  // factors[s, t] = −β k_s·k_t
  for_each_in_rows(team, count, count, [&](const int s) {
    Real* row = factors + s * stride;
    return [=](const int t) { row[t] *= -beta; };
  });

  // u_t += Σ_{s < first} factors[s, t] u_s + Σ_{first ≤ s < t} factors[s, t] u_s of a block of rows t; those before it
  // are solved
  for (int first = 0; first < count; first += step) {
    const int rows = count - first < step ? count - first : step;
    add_product(team, rows, columns, first, LeftFactor<Real>{factors + first, 1, stride}, u, columns,
                u + first * columns, columns);
    detail::substitute(team, first, rows, columns, factors, stride, u);
  }
}

}  // namespace bsbr::kernels
