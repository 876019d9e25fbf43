// What a gated attention unit carries from chunk to chunk (Hua et al. 2022).
#pragma once

#include "kernels/math.hpp"
#include "kernels/scan_rule.hpp"

namespace bsbr::attention {

/// Adds q S to what the softmax has left in the output, and gates the sum.
template <class Real>
struct GauRule {
  static constexpr bool sees_own_step = false, corrects_state = false;
  Strided<const Real***> gate;  // empty: the sum stays as it is
  bool averages = false;        // whether a chunk's Kᵀ V is divided by the number of its real tokens

  KOKKOS_FUNCTION bool averages_steps() const { return averages; }

  KOKKOS_FUNCTION int extra_columns() const { return 0; }

  /// For the gradient of q S: the gate is not part of it.
  KOKKOS_FUNCTION bool maps() const { return false; }

  template <class Wanted>
  KOKKOS_FUNCTION void map(const kernels::Team&, std::int64_t, const kernels::TileRows<Real>&, const Wanted&) const {}

  KOKKOS_FUNCTION auto store(std::int64_t batch, std::int64_t token, std::int64_t column, int, const Real* row,
                             Real* output) const {
    const Real* g = gate.data() == nullptr ? nullptr : &gate(batch, token, column);
    return [=](const int i) {
      const Real sum = output[i] + row[i];
      output[i] = g == nullptr ? sum : kernels::sigmoid(g[i]) * sum;
    };
  }
};

}  // namespace bsbr::attention
