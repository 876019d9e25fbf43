// Rows turned into columns, for products that want a factor the other way round.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/compat.hpp"
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

}  // namespace detail

/// columns[k · stride + i] = factor · row_i[k] for i < count, k < width; 0 for i of the last whole vector beyond
/// `count`, and where row(i), a pointer, is null.
template <class Real, class Row>
inline void transpose_rows([[maybe_unused]] const SerialTeam& team, int count, int width, Real factor, const Row& row,
                           Real* columns, std::int64_t stride) {
  constexpr int n = lanes<Real>;
  for (int first = 0; first < count; first += n) {
    const Real* rows[n];
    for (int i = 0; i < n; ++i) rows[i] = first + i < count ? row(first + i) : nullptr;
    int k = 0;
    for (; k + n <= width; k += n) {
      detail::Vector<Real> block[n];
      for (int i = 0; i < n; ++i) {
        block[i] = rows[i] == nullptr ? detail::Vector<Real>{} : factor * load<detail::Vector<Real>>(rows[i] + k);
      }
      detail::transpose_vectors<n / 2, Real>(block);
      for (int i = 0; i < n; ++i) store(columns + (k + i) * stride + first, block[i]);
    }
    for (; k < width; ++k) {
      for (int i = 0; i < n; ++i) columns[k * stride + first + i] = rows[i] == nullptr ? Real(0) : factor * rows[i][k];
    }
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
    const Real* source = row(i);
    columns[k * stride + i] = source == nullptr ? Real(0) : factor * source[k];
  });
}

}  // namespace bsbr::kernels
