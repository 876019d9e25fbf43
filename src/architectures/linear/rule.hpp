// Linear attention: no softmax, one sum of kᵀv (Katharopoulos et al. 2020).
#pragma once

#include "bsbr/config.hpp"
#include "kernels/math.hpp"
#include "kernels/rows.hpp"

namespace bsbr::attention {

/// o_t = q_t S_t, S_t = S_{t−1} + k_tᵀ v_t; with the feature map φ(z) = elu(z) + 1 on q and k o_t = φ(q_t) S_t /
/// (φ(q_t)·Σ_{s≤t} φ(k_s)). The normaliser's sums are those of a column of ones that values have besides their own.
template <class Real>
struct LinearRule {
  static constexpr bool sees_own_step = true, corrects_state = false;
  bool elu;

  explicit LinearRule(const ModelConfig& config) : elu(config.feature_map == FeatureMap::elu) {}

  KOKKOS_FUNCTION int extra_columns() const { return elu ? 1 : 0; }

  template <class Wanted>
  KOKKOS_FUNCTION void map(const kernels::Team& team, std::int64_t, const kernels::TileRows<Real>& rows,
                           const Wanted& wanted) const {
    if (!elu) return;
    kernels::for_each_in_rows(team, rows.count, rows.width, [&](const int row) {
      const bool mapped = wanted(row);
      return [=](const int i) { rows(row, i) = mapped ? kernels::elu_plus_one(rows(row, i)) : rows(row, i); };
    });
  }

  template <class Tile>
  KOKKOS_FUNCTION void prepare(const kernels::Team&, const Tile&, int) const {}  // u = v

  /// The normaliser is 0 before the first real token. One that overflowed makes NaN, rather than 0 of what is finite.
  KOKKOS_FUNCTION auto store(std::int64_t, std::int64_t, std::int64_t, int columns, const Real* row,
                             Real* output) const {
    constexpr Real largest = kernels::detail::largest_number<Real>, nan = kernels::detail::not_a_number<Real>;
    const Real normaliser = elu ? row[columns] : Real(1);
    const Real factor = normaliser == 0 ? Real(0) : normaliser <= largest ? 1 / normaliser : nan;
    return [=](const int i) { output[i] = row[i] * factor; };
  }
};

}  // namespace bsbr::attention
