// The product inside the kernels of the three families: a small c = a·b or c += a·b on tiles in cache.
//
// Each element is one chain of multiply-adds over the depth, started from 0 and then stored, or added to c. Its bits depend on its own row
// of a and column of b only, not on where it lies in a tile or on the tile's size.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/compat.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Left factor: a(row, k) = data[row·row_stride + k·depth_stride].
template <class Real>
struct LeftFactor {
  const Real* data;
  std::int64_t row_stride, depth_stride;
};

/// Factors [begin, end) of the depth of a product.
struct DepthRange {
  int begin, end;
};

/// Elements of the widest vector.
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

/// All lanes or none, for a select between vectors.
template <class Real>
using Lanes [[gnu::vector_size(tuning::vector_bytes)]] = std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;

/// rows × (vectors · lanes) elements of c, held in registers over the whole depth. Factors that all rows take are in the middle of it. At
/// both ends a select, rather than a branch, leaves out the rows that do not take one: sums stay in registers.
template <bool add, int rows, int vectors, class Real, class Depth>
inline void micro_tile(const Depth& depth, const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c,
                       std::int64_t c_stride) {
  Vector<Real> partial[rows][vectors] = {};
  const auto multiply = [&](int k, auto all_rows) __attribute__((always_inline)) {
    const Real* b_row = b + k * b_stride;
    Vector<Real> columns[vectors];
    for (int v = 0; v < vectors; ++v) columns[v] = load(b_row + v * lanes<Real>);
    for (int row = 0; row < rows; ++row) {
      const Real factor = a.data[row * a.row_stride + k * a.depth_stride];
      [[maybe_unused]] const auto taken = Lanes<Real>{} - (depth.takes(row, k) ? 1 : 0);
      for (int v = 0; v < vectors; ++v) {
        const Vector<Real> sum = partial[row][v] + factor * columns[v];
        if constexpr (all_rows) {
          partial[row][v] = sum;
        } else {
          partial[row][v] = taken ? sum : partial[row][v];
        }
      }
    }
  };
  for (int k = depth.begin(); k < depth.all_begin(); ++k) multiply(k, std::false_type());
  for (int k = depth.all_begin(); k < depth.all_end(); ++k) multiply(k, std::true_type());
  for (int k = depth.all_end(); k < depth.end(); ++k) multiply(k, std::false_type());
  for (int row = 0; row < rows; ++row) {
    for (int v = 0; v < vectors; ++v) {
      Real* target = c + row * c_stride + v * lanes<Real>;
      store(target, add ? load(target) + partial[row][v] : partial[row][v]);
    }
  }
}

/// All columns of up to `rows` rows.
template <bool add, int rows, class Real, class Depth>
inline void micro_rows(int row_count, int columns, const Depth& depth, const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride,
                       Real* c, std::int64_t c_stride) {
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

/// Every row takes the whole depth.
struct WholeDepth {
  int count;
  static constexpr int begin() { return 0; }
  static constexpr int all_begin() { return 0; }
  int all_end() const { return count; }
  int end() const { return count; }
  static constexpr bool takes(int, int) { return true; }
};

/// Each row takes a range of the depth, which does not decrease from row to row.
class RangesOfDepth {
 public:
  template <class Range>
  RangesOfDepth(int first, int rows, const Range& range) : m_rows(rows) {
    for (int row = 0; row < rows; ++row) m_ranges[row] = range(first + row);
  }
  int begin() const { return m_ranges[0].begin; }
  int all_begin() const { return m_ranges[m_rows - 1].begin < end() ? m_ranges[m_rows - 1].begin : end(); }
  int all_end() const { return m_ranges[0].end > all_begin() ? m_ranges[0].end : all_begin(); }
  int end() const { return m_ranges[m_rows - 1].end; }
  bool takes(int row, int k) const { return (m_ranges[row].begin <= k) & (k < m_ranges[row].end); }  // without a branch
  bool is_the_same_of_all() const { return begin() == all_begin() && all_end() == end(); }

 private:
  DepthRange m_ranges[tuning::micro_rows];
  int m_rows;
};

template <class Real>
LeftFactor<Real> rows_from(const LeftFactor<Real>& a, int row) {
  return {a.data + row * a.row_stride, a.row_stride, a.depth_stride};
}

template <bool add, class Real>
inline void product([[maybe_unused]] const SerialTeam& team, int rows, int columns, int depth, const LeftFactor<Real>& a, const Real* b,
                    std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  constexpr int step = tuning::micro_rows;
  for (int row = 0; row < rows; row += step) {
    const int count = rows - row < step ? rows - row : step;
    micro_rows<add, step>(count, padded<Real>(columns), WholeDepth{depth}, rows_from(a, row), b, b_stride, c + row * c_stride, c_stride);
  }
}

template <class Real, class Range>
inline void product_of_ranges([[maybe_unused]] const SerialTeam& team, int rows, int columns, const Range& range, const LeftFactor<Real>& a,
                              const Real* b, std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  constexpr int step = tuning::micro_rows;
  for (int row = 0; row < rows; row += step) {
    const int count = rows - row < step ? rows - row : step;
    const RangesOfDepth depth(row, count, range);
    const LeftFactor<Real> part = rows_from(a, row);
    if (depth.begin() >= depth.end()) continue;
    if (depth.is_the_same_of_all()) {
      const LeftFactor<Real> taken{part.data + depth.begin() * part.depth_stride, part.row_stride, part.depth_stride};
      micro_rows<true, step>(count, padded<Real>(columns), WholeDepth{depth.end() - depth.begin()}, taken, b + depth.begin() * b_stride,
                             b_stride, c + row * c_stride, c_stride);
    } else {
      micro_rows<true, step>(count, padded<Real>(columns), depth, part, b, b_stride, c + row * c_stride, c_stride);
    }
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

template <class Real, class Range>
KOKKOS_INLINE_FUNCTION void product_of_ranges(const TeamMember& team, int rows, int columns, const Range& range, const LeftFactor<Real>& a,
                                              const Real* b, std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  for_each(team, rows * columns, [&](const int element) {
    const int row = element / columns, column = element % columns;
    const DepthRange depth = range(row);
    Real chain = 0;
    for (int k = depth.begin; k < depth.end; ++k) chain += a.data[row * a.row_stride + k * a.depth_stride] * b[k * b_stride + column];
    c[row * c_stride + column] += chain;
  });
}

}  // namespace detail

/// c[row, column] = Σ_k a(row, k) b[k, column] for row < rows, column < columns, k < depth. Whole vectors of b and c are read and written:
/// rows of b and c must have padded(columns) elements, the surplus ones being anything.
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

/// c[row, column] += Σ_k a(row, k) b[k, column] over the k in range(row), a DepthRange; neither end decreases from row to row. What a row
/// does not take is not multiplied: its factor may hold anything, and what overflowed in b stays away, which a factor of 0 would not do
/// (0 · infinity is NaN). Where b is finite the bits are those of add_product with factors of 0 outside of the ranges.
template <class Real, class Range>
KOKKOS_INLINE_FUNCTION void add_product_of_ranges(const Team& team, int rows, int columns, const Range& range, const LeftFactor<Real>& a,
                                                  const Real* b, std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  detail::product_of_ranges(team, rows, columns, range, a, b, b_stride, c, c_stride);
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
