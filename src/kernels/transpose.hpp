// Rows turned into columns, for products that want a factor the other way round.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/compat.hpp"
#include "kernels/stored_row.hpp"
#include "kernels/tile_product.hpp"

namespace bsbr::kernels {

namespace detail {

/// Number `index` of two vectors that lie one after the other.
template <int index, class Real>
inline Real element(const Vector<Real>& first, const Vector<Real>& second) {
  if constexpr (index < lanes<Real>) {
    return first[index];
  } else {
    return second[index - lanes<Real>];
  }
}

/// One step of a transpose of `lanes` vectors: of two that are `half` apart, the lower gets the even blocks of `half`
/// elements of both, the upper the odd ones. Compilers make one permutation of each list; not every one that Kokkos
/// runs on has a builtin for it.
template <int half, class Real, int... lane>
inline void exchange_blocks(Vector<Real>& lower, Vector<Real>& upper, std::integer_sequence<int, lane...>) {
  constexpr int n = lanes<Real>;
  const Vector<Real> a = lower, b = upper;
  lower = Vector<Real>{element<((lane & half) == 0 ? lane : n + lane - half), Real>(a, b)...};
  upper = Vector<Real>{element<((lane & half) == 0 ? lane + half : n + lane), Real>(a, b)...};
}

template <int half, class Real>
inline void transpose_vectors(Vector<Real>* rows) {
  if constexpr (half > 0) {
    for (int i = 0; i < lanes<Real>; ++i) {
      if ((i & half) == 0)
        exchange_blocks<half, Real>(rows[i], rows[i + half], std::make_integer_sequence<int, lanes<Real>>());
    }
    transpose_vectors<half / 2, Real>(rows);
  }
}

/// columns[k · stride + i] = factor · row_i[k] for as many rows as a vector has lanes, of Real or Bfloat16.
template <class Real, class Element>
inline void transpose_vector_of_rows(const Element* const* rows, int width, Real factor, Real* columns,
                                     std::int64_t stride) {
  constexpr int n = lanes<Real>;
  int k = 0;
  for (; k + n <= width; k += n) {
    Vector<Real> block[n];
    for (int i = 0; i < n; ++i) {
      block[i] = rows[i] == nullptr ? Vector<Real>{} : factor * load<Vector<Real>>(rows[i] + k);
    }
    transpose_vectors<n / 2, Real>(block);
    for (int i = 0; i < n; ++i) store(columns + (k + i) * stride, block[i]);
  }
  for (; k < width; ++k) {
    for (int i = 0; i < n; ++i) columns[k * stride + i] = rows[i] == nullptr ? Real(0) : factor * rows[i][k];
  }
}

}  // namespace detail

/// columns[k · stride + i] = factor · row_i[k] for i < count, k < width; 0 for i of the last whole vector beyond
/// `count`, and where row(i), a pointer or a StoredRow, is null. All rows are packed, or none is.
template <class Real, class Row>
inline void transpose_rows([[maybe_unused]] const SerialTeam& team, int count, int width, Real factor, const Row& row,
                           Real* columns, std::int64_t stride) {
  constexpr int n = lanes<Real>;
  for (int first = 0; first < count; first += n) {
    std::invoke_result_t<const Row&, int> rows[n] = {};
    for (int i = 0; i < n && first + i < count; ++i) rows[i] = row(first + i);
    with_elements(rows, [&](const auto& elements) {
      detail::transpose_vector_of_rows(elements, width, factor, columns + first, stride);
    });
  }
}

template <class Real, class Row>
KOKKOS_INLINE_FUNCTION void transpose_rows(const TeamMember& team, int count, int width, Real factor, const Row& row,
                                           Real* columns, std::int64_t stride) {
  constexpr int run =
      gpu_tuning::transposed_run;  // that threads side by side read of a row: few conflicts where they write
  const int runs = (width + run - 1) / run;
  for_each(team, count * runs * run, [&](const int element) {
    const int i = element / run % count, k = element / run / count * run + element % run;
    if (k >= width) return;
    const auto source = row(i);
    columns[k * stride + i] = source == nullptr ? Real(0) : factor * source[k];
  });
}

}  // namespace bsbr::kernels
