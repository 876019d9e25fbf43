// Linear attention: no softmax, one sum of kᵀv (Katharopoulos et al. 2020).
#pragma once

#include "bsbr/config.hpp"
#include "kernels/math.hpp"
#include "kernels/rows.hpp"
#include "kernels/scan_tile.hpp"

namespace bsbr::attention {

/// o_t = q_t S_t, S_t = S_{t−1} + k_tᵀ v_t; with the feature map φ(z) = elu(z) + 1 on q and k o_t = φ(q_t) S_t /
/// (φ(q_t)·Σ_{s≤t} φ(k_s)). The normaliser's sums are those of a column of ones that values have besides their own.
template <class Real>
struct LinearRule {
  static constexpr bool sees_own_step = true, corrects_state = false;
  bool elu;
  Array<Real***> normalisers;  // [batch, tokens, heads], kept for the gradient; empty: not kept

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
  KOKKOS_FUNCTION static Real inverse(Real normaliser) {
    constexpr Real largest = kernels::detail::largest_number<Real>, nan = kernels::detail::not_a_number<Real>;
    return normaliser == 0 ? Real(0) : normaliser <= largest ? 1 / normaliser : nan;
  }

  KOKKOS_FUNCTION auto store(std::int64_t, std::int64_t, std::int64_t, int columns, const Real* row,
                             Real* output) const {
    const Real factor = elu ? inverse(row[columns]) : Real(1);
    return [=](const int i) { output[i] = row[i] * factor; };
  }

  // ---- For the gradient ----

  KOKKOS_FUNCTION bool maps() const { return elu; }

  /// Normalisers: by the team of the first columns.
  template <class Tile>
  KOKKOS_FUNCTION void keep(const kernels::Team& team, const kernels::KeptRows& rows, const Tile& tile) const {
    if (normalisers.size() == 0 || rows.column > 0) return;
    kernels::for_each(team, rows.end - rows.begin, [&](const int row) {
      normalisers(rows.batch, rows.token + row, rows.head) =
          tile.output[(rows.begin + row) * tile.stride + rows.columns];
    });
  }

  /// Elements that are kept of one token, of all heads.
  static std::int64_t kept_elements(const ModelConfig& config) {
    return config.feature_map == FeatureMap::elu ? config.num_heads : 0;
  }
  void keep_in(const Array<Real***>& array) { normalisers = array; }

  /// φ'(z) = 1 for z > 0, exp(z) for the others
  KOKKOS_FUNCTION void map_gradient(const kernels::Team& team, int width, const Real* row, Real* gradient) const {
    kernels::for_each(team, width, [=](const int i) {
      gradient[i] *= row[i] > 0 ? Real(1) : kernels::exp_nonpositive(row[i] > 0 ? Real(0) : row[i]);
    });
  }

  /// o = N/n: dN = do/n, dn = −(do·o)/n
  KOKKOS_FUNCTION void store_gradient(const kernels::Team& team, std::int64_t batch, std::int64_t token,
                                      std::int64_t head, int width, const Real* output_gradient, const Real* output,
                                      Real* row) const {
    const Real factor = inverse(normalisers(batch, token, head));
    const Real dot = kernels::sum<Real>(team, width, [=](const int i) { return output_gradient[i] * output[i]; });
    kernels::for_each(team, width + 1, [=](const int i) {
      row[i] = i < width ? output_gradient[i] * factor : factor == 0 ? Real(0) : -dot * factor;
    });
  }
};

}  // namespace bsbr::attention
