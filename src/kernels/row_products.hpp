// Scalar products of rows with the bits of a matrix product.
#pragma once

#include <cstdint>

#include "kernels/compat.hpp"
#include "kernels/tile_product.hpp"
#include "kernels/transpose.hpp"

namespace bsbr::kernels {

/// store(i, a_i · b_i) for i < count; a(i) and b(i) are pointers to `width` elements. Each is one chain of
/// multiply-adds in the order of the elements, as an element of form_product is: it has the bits of that. A plain loop
/// has not: compilers vectorise its multiplications apart from its additions.
template <class Real, class RowsA, class RowsB, class Store>
inline void for_row_products([[maybe_unused]] const SerialTeam& team, int count, int width, const RowsA& a,
                             const RowsB& b, const Store& store) {
  constexpr int n = lanes<Real>;
  using Vector = detail::Vector<Real>;
  for (int first = 0; first < count; first += n) {
    const Real *rows_a[n], *rows_b[n];
    for (int i = 0; i < n; ++i) {  // the last row serves for those that are missing
      const int row = first + i < count ? first + i : count - 1;
      rows_a[i] = a(row), rows_b[i] = b(row);
    }
    Vector sum{};
    int k = 0;
    for (; k + n <= width; k += n) {
      Vector block_a[n], block_b[n];
      for (int i = 0; i < n; ++i) block_a[i] = load<Vector>(rows_a[i] + k), block_b[i] = load<Vector>(rows_b[i] + k);
      detail::transpose_vectors<n / 2, Real>(block_a);
      detail::transpose_vectors<n / 2, Real>(block_b);
      for (int i = 0; i < n; ++i) sum = sum + block_a[i] * block_b[i];
    }
    for (; k < width; ++k) {
      Vector column_a{}, column_b{};
      for (int i = 0; i < n; ++i) column_a[i] = rows_a[i][k], column_b[i] = rows_b[i][k];
      sum = sum + column_a * column_b;
    }
    for (int i = 0; i < n && first + i < count; ++i) store(first + i, sum[i]);
  }
}

template <class Real, class RowsA, class RowsB, class Store>
KOKKOS_INLINE_FUNCTION void for_row_products(const TeamMember& team, int count, int width, const RowsA& a,
                                             const RowsB& b, const Store& store) {
  for_each(team, count, [&](const int i) {
    const Real *row_a = a(i), *row_b = b(i);
    Real sum = 0;
    for (int k = 0; k < width; ++k) sum += row_a[k] * row_b[k];
    store(i, sum);
  });
}

}  // namespace bsbr::kernels
