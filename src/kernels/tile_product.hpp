// The product inside the kernels of the three families: a small c = a·b or c += a·b on tiles in cache.
//
// Each element is one chain of multiply-adds over the depth, started from 0 and then stored, or added to c. Its bits depend on its own row
// of a and column of b only, not on where it lies in a tile or on the tile's size.
#pragma once

#include <cstdint>

#include "kernels/compat.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Left factor: a(row, k) = data[row·row_stride + k·depth_stride].
template <class Real>
struct LeftFactor {
  const Real* data;
  std::int64_t row_stride, depth_stride;
};

/// Numbers in the widest vector.
template <class Real>
inline constexpr int lanes = tuning::vector_bytes / static_cast<int>(sizeof(Real));

/// The next multiple of the vector length: rows of tiles are that long, since products read and write whole vectors.
template <class Real>
KOKKOS_INLINE_FUNCTION constexpr int padded(int columns) {
  return (columns + lanes<Real> - 1) / lanes<Real> * lanes<Real>;
}

namespace detail {

template <class Real>
using Vector [[gnu::vector_size(tuning::vector_bytes)]] = Real;

/// The vector of numbers at `from`, wherever they lie. By memcpy, since compilers forget an alignment that depends on a template's
/// parameter.
template <class Real>
inline auto load(const Real* from) {
  Vector<Real> vector;
  __builtin_memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <class Real, class Numbers>
inline void store(Real* to, const Numbers& vector) {
  __builtin_memcpy(to, &vector, sizeof(vector));
}

/// rows × (vectors · lanes) elements of c, held in registers over the whole depth.
template <bool add, int rows, int vectors, class Real>
inline void micro_tile(int depth, const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  Vector<Real> partial[rows][vectors] = {};
  for (int k = 0; k < depth; ++k) {
    const Real* b_row = b + k * b_stride;
    Vector<Real> columns[vectors];
    for (int v = 0; v < vectors; ++v) columns[v] = load(b_row + v * lanes<Real>);
    for (int row = 0; row < rows; ++row) {
      const Real factor = a.data[row * a.row_stride + k * a.depth_stride];
      for (int v = 0; v < vectors; ++v) partial[row][v] += factor * columns[v];
    }
  }
  for (int row = 0; row < rows; ++row) {
    for (int v = 0; v < vectors; ++v) {
      Real* target = c + row * c_stride + v * lanes<Real>;
      store(target, add ? load(target) + partial[row][v] : partial[row][v]);
    }
  }
}

/// All columns of up to `rows` rows.
template <bool add, int rows, class Real>
inline void micro_rows(int row_count, int columns, int depth, const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c,
                       std::int64_t c_stride) {
  if constexpr (rows > 1) {
    if (row_count < rows) return micro_rows<add, rows - 1>(row_count, columns, depth, a, b, b_stride, c, c_stride);
  }
  constexpr int vectors = tuning::micro_vectors;
  int column = 0;
  for (; column + vectors * lanes<Real> <= columns; column += vectors * lanes<Real>) {
    micro_tile<add, rows, vectors>(depth, a, b + column, b_stride, c + column, c_stride);
  }
  if constexpr (vectors > 3) {
    if (column + 3 * lanes<Real> <= columns) {
      micro_tile<add, rows, 3>(depth, a, b + column, b_stride, c + column, c_stride);
      column += 3 * lanes<Real>;
    }
  }
  if constexpr (vectors > 2) {
    if (column + 2 * lanes<Real> <= columns) {
      micro_tile<add, rows, 2>(depth, a, b + column, b_stride, c + column, c_stride);
      column += 2 * lanes<Real>;
    }
  }
  for (; column < columns; column += lanes<Real>) micro_tile<add, rows, 1>(depth, a, b + column, b_stride, c + column, c_stride);
}

template <bool add, class Real>
inline void product([[maybe_unused]] const SerialTeam& team, int rows, int columns, int depth, const LeftFactor<Real>& a, const Real* b,
                    std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  constexpr int step = tuning::micro_rows;
  for (int row = 0; row < rows; row += step) {
    const int count = rows - row < step ? rows - row : step;
    const LeftFactor<Real> part{a.data + row * a.row_stride, a.row_stride, a.depth_stride};
    micro_rows<add, step>(count, padded<Real>(columns), depth, part, b, b_stride, c + row * c_stride, c_stride);
  }
}

template <bool add, class Real>
KOKKOS_INLINE_FUNCTION void product(const TeamMember& team, int rows, int columns, int depth, const LeftFactor<Real>& a, const Real* b,
                                    std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  for_each(team, rows * columns, [&](const int element) {
    const int row = element / columns, column = element % columns;
    Real chain = 0;
    for (int k = 0; k < depth; ++k) chain += a.data[row * a.row_stride + k * a.depth_stride] * b[k * b_stride + column];
    Real& target = c[row * c_stride + column];
    target = add ? target + chain : chain;
  });
}

}  // namespace detail

/// c[row, column] = Σ_k a(row, k) b[k, column] for row < rows, column < columns, k < depth. Whole vectors of b and c are read and written:
/// rows of b and c must have padded(columns) elements, the surplus ones being anything finite.
template <class Real>
KOKKOS_INLINE_FUNCTION void form_product(const Team& team, int rows, int columns, int depth, const LeftFactor<Real>& a, const Real* b,
                                         std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  detail::product<false>(team, rows, columns, depth, a, b, b_stride, c, c_stride);
}

/// The same, c[row, column] +=.
template <class Real>
KOKKOS_INLINE_FUNCTION void add_product(const Team& team, int rows, int columns, int depth, const LeftFactor<Real>& a, const Real* b,
                                        std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  detail::product<true>(team, rows, columns, depth, a, b, b_stride, c, c_stride);
}

/// tile[0, padded(width)) = row, padded with zeros; zeros if row is null.
template <class Real>
inline void load_padded([[maybe_unused]] const SerialTeam& team, const Real* row, int width, Real* tile) {
  for (int i = 0; i < width; i += lanes<Real>) {
    const bool whole = row != nullptr && i + lanes<Real> <= width;
    detail::store(tile + i, whole ? detail::load(row + i) : detail::Vector<Real>{});
    if (whole || row == nullptr) continue;
    for (int k = i; k < width; ++k) tile[k] = row[k];
  }
}

template <class Real>
KOKKOS_INLINE_FUNCTION void load_padded(const TeamMember& team, const Real* row, int width, Real* tile) {
  for_each(team, padded<Real>(width), [&](const int i) { tile[i] = row != nullptr && i < width ? row[i] : Real(0); });
}

}  // namespace bsbr::kernels
