// DeltaNet: a state that is corrected towards each value, not only added to (Schlag et al. 2021).
#pragma once

#include "bsbr/config.hpp"
#include "kernels/delta_rule.hpp"
#include "kernels/rows.hpp"

namespace bsbr::attention {

/// o_t = q_t S_t, S_t = S_{t−1} + β k_tᵀ (v_t − k_t S_{t−1}), with q and k of length 1; a tile at a time by the WY
/// form.
template <class Real>
struct DeltaNetRule {
  static constexpr bool sees_own_step = true, corrects_state = true;
  Real beta;
  Array<Real***> corrections;  // u [batch, tokens, heads · width], kept for the gradient; empty: not kept

  explicit DeltaNetRule(const ModelConfig& config) : beta(static_cast<Real>(config.beta)) {}

  KOKKOS_FUNCTION int extra_columns() const { return 0; }

  template <class Wanted>
  KOKKOS_FUNCTION void map(const kernels::Team& team, std::int64_t, const kernels::TileRows<Real>& rows,
                           const Wanted& wanted) const {
    kernels::normalise_rows(team, rows, wanted);
  }

  template <class Tile>
  KOKKOS_FUNCTION void prepare(const kernels::Team& team, const Tile& tile, int count) const {
    kernels::solve_delta_rule(team, beta, count, tile);
  }

  KOKKOS_FUNCTION auto store(std::int64_t, std::int64_t, std::int64_t, int, const Real* row, Real* output) const {
    return [=](const int i) { output[i] = row[i]; };
  }

  // ---- For the gradient ----

  KOKKOS_FUNCTION bool maps() const { return true; }

  template <class Tile>
  KOKKOS_FUNCTION void keep(const kernels::Team& team, const kernels::KeptRows& rows, const Tile& tile) const {
    if (corrections.size() == 0) return;
    kernels::for_each_in_rows(team, rows.end - rows.begin, rows.columns, [&](const int row) {
      const Real* from = tile.values + (rows.begin + row) * tile.stride;
      Real* to = &corrections(rows.batch, rows.token + row, rows.head * tile.key_width + rows.column);
      return [=](const int i) { to[i] = from[i]; };
    });
  }

  /// Elements that are kept of one token, of all heads.
  static std::int64_t kept_elements(const ModelConfig& config) { return config.attention_dim(); }
  void keep_in(const Array<Real***>& array) { corrections = array; }

  KOKKOS_FUNCTION void map_gradient(const kernels::Team& team, int width, const Real* row, Real* gradient) const {
    kernels::normalise_gradient(team, width, row, gradient);
  }
};

}  // namespace bsbr::attention
