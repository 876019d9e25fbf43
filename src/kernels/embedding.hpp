// The input of the first layer, x_t = E[id_t] + P_t, and the gradient of E.
//
//     P[t, 2m] = sin(t·ω_m),  P[t, 2m+1] = cos(t·ω_m),  ω_m = 10000^(−2m/D)
//
// One angle is evaluated for each tile of positions and turned by ω_m from token to token: (cos, sin) of a sum, in
// double precision. Tiles are cut at global positions, so a position's bits do not depend on where a rank begins; after
// tuning::position_tile turns the error is below 1e-13.
#pragma once

#include <Kokkos_Core.hpp>
#include <cmath>
#include <type_traits>

#include "kernels/dropout.hpp"
#include "kernels/scratch.hpp"

namespace bsbr::kernels {

/// Scratch of one team: of each pair m of columns the point on the circle, and the turn by one token.
struct PositionTile {
  double *sine, *cosine;            // [pairs], of the current token
  double *turn_sine, *turn_cosine;  // [pairs]

  static std::int64_t bytes(int pairs) { return 4 * scratch_bytes<double>(pairs); }

  KOKKOS_INLINE_FUNCTION PositionTile(Scratch& scratch, int pairs)
      : sine(scratch.take<double>(pairs)),
        cosine(scratch.take<double>(pairs)),
        turn_sine(scratch.take<double>(pairs)),
        turn_cosine(scratch.take<double>(pairs)) {}
};

namespace detail {

/// (sine, cosine) = of t·ω_m of global position t, (turn_sine, turn_cosine) = of ω_m
KOKKOS_INLINE_FUNCTION void start_positions(const Team& team, int hidden, std::int64_t token,
                                            const PositionTile& tile) {
  for_each(team, (hidden + 1) / 2, [&](const int m) {
    const double frequency = std::pow(10000.0, -2.0 * m / hidden), angle = static_cast<double>(token) * frequency;
    tile.sine[m] = std::sin(angle);
    tile.cosine[m] = std::cos(angle);
    tile.turn_sine[m] = std::sin(frequency);
    tile.turn_cosine[m] = std::cos(frequency);
  });
}

/// From one token to the next: sin(a + ω) = sin a cos ω + cos a sin ω, cos(a + ω) = cos a cos ω − sin a sin ω
KOKKOS_INLINE_FUNCTION void turn_positions(const Team& team, int pairs, const PositionTile& tile) {
  for_each(team, pairs, [&](const int m) {
    const double sine = tile.sine[m], cosine = tile.cosine[m];
    tile.sine[m] = sine * tile.turn_cosine[m] + cosine * tile.turn_sine[m];
    tile.cosine[m] = cosine * tile.turn_cosine[m] - sine * tile.turn_sine[m];
  });
}

}  // namespace detail

/// Tiles of positions that the tokens [first, first + tokens) lie in: a team each.
inline std::int64_t position_tiles(std::int64_t first, std::int64_t tokens) {
  constexpr std::int64_t size = tuning::position_tile;
  return (first + tokens + size - 1) / size - first / size;
}

/// x [batch, local tokens, D] = rows `ids` of `table` [vocabulary, D] plus the positions from global token `first` on,
/// and what dropout leaves of them. Ids must be valid.
template <class Real>
void embed(const Execution& execution, const Array<const std::int32_t**>& ids, const Array<const Real**>& table,
           std::int64_t first, const Array<Real***>& x, const DropoutOfRows& dropout = {}) {
  constexpr std::int64_t size = tuning::position_tile;
  const auto batch = static_cast<std::int64_t>(x.extent(0)), tokens = static_cast<std::int64_t>(x.extent(1));
  const int hidden = static_cast<int>(x.extent(2)), pairs = (hidden + 1) / 2;
  if (batch * tokens == 0) return;
  const std::int64_t first_tile = first / size, tiles = position_tiles(first, tokens);
  const std::int64_t bytes = PositionTile::bytes(pairs);
  Kokkos::parallel_for(
      "bsbr::embedding::embed", team_policy(execution, tiles, bytes), KOKKOS_LAMBDA(const TeamMember& member) {
        const auto team = as_team(member);
        Scratch scratch(member, bytes);
        const PositionTile tile(scratch, pairs);
        const std::int64_t origin = (first_tile + member.league_rank()) * size;
        const std::int64_t end = origin + size < first + tokens ? origin + size : first + tokens;
        detail::start_positions(team, hidden, origin, tile);
        for (std::int64_t token = origin; token < end; ++token) {
          for (std::int64_t row = 0; token >= first && row < batch; ++row) {  // x_t = E[id_t] + P_t
            const Real* source = &table(ids(row, token - first), 0);
            Real* target = &x(row, token - first, 0);
            for_each(team, hidden, [&](const int i) {
              target[i] = source[i] + static_cast<Real>(i % 2 == 0 ? tile.sine[i / 2] : tile.cosine[i / 2]);
            });
            dropout.apply(team, row, token - first, hidden, target);
          }
          detail::turn_positions(team, pairs, tile);
        }
      });
}

/// table_gradient [vocabulary, D]: row `id` += x_gradient_t of the tokens t with that id, one after the other in the
/// order of the leaf's tokens; ids [tokens], x_gradient [tokens, D]. Ids must be valid. Each thread goes through all
/// ids, and adds some columns of the tokens of some ids: none waits for another, and rows that no token has are not
/// touched.
template <class Real>
void add_embedding_gradient(const Execution& execution, const Array<const std::int32_t*>& ids,
                            const std::type_identity_t<Array<const Real**>>& x_gradient,
                            const Array<Real**>& table_gradient) {
  const auto tokens = static_cast<std::int64_t>(ids.extent(0)),
             hidden = static_cast<std::int64_t>(x_gradient.extent(1));
  if (tokens == 0 || hidden == 0) return;
  constexpr std::int64_t width = tuning::thread_columns, groups = tuning::id_groups;
  const std::int64_t blocks = (hidden + width - 1) / width;
  const Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>> policy(execution, 0, groups * blocks);
  Kokkos::parallel_for(
      "bsbr::embedding::gradient", policy, KOKKOS_LAMBDA(const std::int64_t index) {
        [[maybe_unused]] const auto team = as_team(LoneThread{});
        const std::int64_t group = index / blocks, first = index % blocks * width;
        const std::int64_t end = first + width < hidden ? first + width : hidden;
        for (std::int64_t t = 0; t < tokens; ++t) {
          if (ids(t) % groups != group) continue;
          Real* target = &table_gradient(ids(t), 0);
          const Real* source = &x_gradient(t, 0);
          for (std::int64_t i = first; i < end; ++i) target[i] += source[i];
        }
      });
}

}  // namespace bsbr::kernels
