// The product inside the kernels of the three families: a small c = a·b or c += a·b on tiles in cache.
//
// Each element is one chain of multiply-adds over the depth, started from 0 and then stored, or added to c. Its bits
// depend on its own row of a and column of b only, not on where it lies in a tile or on the tile's size.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/compat.hpp"
#include "kernels/stored_row.hpp"
#include "kernels/tuning.hpp"
#include "kernels/vectors.hpp"

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

/// All lanes or none, for a select between vectors.
template <class Real>
using Lanes [[gnu::vector_size(tuning::vector_bytes)]] =
    std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;

/// c[row, :] = Σ_k a(row, k) b[k, :], or += : rows × (vectors · lanes) elements of c, held in registers over the whole
/// depth. Factors that all rows take are in the middle of it. At both ends a select, rather than a branch, leaves out
/// the rows that do not take one: sums stay in registers.
template <bool add, int rows, int vectors, class Real, class Depth>
inline void micro_tile(const Depth& depth, const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c,
                       std::int64_t c_stride) {
  Vector<Real> partial[rows][vectors] = {};
  const auto multiply = [&](int k, auto all_rows) __attribute__((always_inline)) {
    const Real* b_row = b + k * b_stride;
    Vector<Real> columns[vectors];
    for (int v = 0; v < vectors; ++v) columns[v] = load<Vector<Real>>(b_row + v * lanes<Real>);
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
      store(target, add ? load<Vector<Real>>(target) + partial[row][v] : partial[row][v]);
    }
  }
}

/// All columns of `rows` rows, which are a multiple of the vector length: tiles as wide as registers hold, then one of
/// what is left. A function by itself: inlined, those of all numbers of rows would stand in every kernel.
template <bool add, int rows, class Real, class Depth>
[[gnu::noinline]] inline void micro_rows_of(int columns, const Depth& depth, const LeftFactor<Real>& a, const Real* b,
                                            std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  constexpr int most = HostSizes::micro_vectors, width = most * lanes<Real>;
  int column = 0;
  for (; column + width <= columns; column += width) {
    micro_tile<add, rows, most>(depth, a, b + column, b_stride, c + column, c_stride);
  }
  if (column == columns) return;
  with_constant<most - 1>((columns - column) / lanes<Real>, [&](auto vectors) {
    micro_tile<add, rows, vectors>(depth, a, b + column, b_stride, c + column, c_stride);
  });
}

/// The same of 1 to HostSizes::micro_rows rows.
template <bool add, class Real, class Depth>
inline void micro_rows(int rows, int columns, const Depth& depth, const LeftFactor<Real>& a, const Real* b,
                       std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  with_constant<HostSizes::micro_rows>(
      rows, [&](auto count) { micro_rows_of<add, count>(columns, depth, a, b, b_stride, c, c_stride); });
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
  DepthRange m_ranges[HostSizes::micro_rows];
  int m_rows;
};

template <class Real>
LeftFactor<Real> rows_from(const LeftFactor<Real>& a, int row) {
  return {a.data + row * a.row_stride, a.row_stride, a.depth_stride};
}

template <bool add, class Real>
inline void product([[maybe_unused]] const SerialTeam& team, int rows, int columns, int depth,
                    const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  constexpr int step = HostSizes::micro_rows;
  for (int row = 0; row < rows; row += step) {
    const int count = rows - row < step ? rows - row : step;
    micro_rows<add>(count, padded<Real>(columns), WholeDepth{depth}, rows_from(a, row), b, b_stride, c + row * c_stride,
                    c_stride);
  }
}

template <class Real, class Range>
inline void product_of_ranges([[maybe_unused]] const SerialTeam& team, int rows, int columns, const Range& range,
                              const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c,
                              std::int64_t c_stride) {
  constexpr int step = HostSizes::micro_rows;
  for (int row = 0; row < rows; row += step) {
    const int count = rows - row < step ? rows - row : step;
    const RangesOfDepth depth(row, count, range);
    const LeftFactor<Real> part = rows_from(a, row);
    if (depth.begin() >= depth.end()) continue;
    if (depth.is_the_same_of_all()) {
      const LeftFactor<Real> taken{part.data + depth.begin() * part.depth_stride, part.row_stride, part.depth_stride};
      micro_rows<true>(count, padded<Real>(columns), WholeDepth{depth.end() - depth.begin()}, taken,
                       b + depth.begin() * b_stride, b_stride, c + row * c_stride, c_stride);
    } else {
      micro_rows<true>(count, padded<Real>(columns), depth, part, b, b_stride, c + row * c_stride, c_stride);
    }
  }
}

/// A GPU's thread holds tile_rows × tile_columns elements of c in registers, so that what it loads serves as many
/// multiply-adds. Its columns lie `groups` apart: threads side by side read neighbouring elements of b.
template <bool add, class Real, class Range>
KOKKOS_INLINE_FUNCTION void register_tile(int row, int rows, int column, int columns, int groups, const Range& range,
                                          const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c,
                                          std::int64_t c_stride) {
  constexpr int tile_rows = gpu_tuning::device_tile_rows, tile_columns = gpu_tuning::device_tile_columns;
  DepthRange taken[tile_rows];
  for (int i = 0; i < tile_rows; ++i) taken[i] = row + i < rows ? range(row + i) : DepthRange{0, 0};
  int begin = taken[0].begin, end = taken[0].end;
  for (int i = 1; i < tile_rows; ++i) end = taken[i].end > end ? taken[i].end : end;  // they do not decrease
  Real sums[tile_rows][tile_columns] = {};
  for (int k = begin; k < end; ++k) {
    Real b_row[tile_columns];
    for (int j = 0; j < tile_columns; ++j)
      b_row[j] = column + j * groups < columns ? b[k * b_stride + column + j * groups] : Real(0);
    for (int i = 0; i < tile_rows; ++i) {
      if (k < taken[i].begin || k >= taken[i].end) continue;
      const Real factor = a.data[(row + i) * a.row_stride + k * a.depth_stride];
      for (int j = 0; j < tile_columns; ++j) sums[i][j] += factor * b_row[j];
    }
  }
  for (int i = 0; i < tile_rows && row + i < rows; ++i) {
    for (int j = 0; j < tile_columns && column + j * groups < columns; ++j) {
      Real& target = c[(row + i) * c_stride + column + j * groups];
      target = add ? target + sums[i][j] : sums[i][j];
    }
  }
}

template <bool add, class Real, class Range>
KOKKOS_INLINE_FUNCTION void product_on_device(const TeamMember& team, int rows, int columns, const Range& range,
                                              const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c,
                                              std::int64_t c_stride) {
  constexpr int tile_rows = gpu_tuning::device_tile_rows, tile_columns = gpu_tuning::device_tile_columns;
  const int groups = (columns + tile_columns - 1) / tile_columns;
  for_each(team, (rows + tile_rows - 1) / tile_rows * groups, [&](const int tile) {
    register_tile<add>(tile / groups * tile_rows, rows, tile % groups, columns, groups, range, a, b, b_stride, c,
                       c_stride);
  });
}

template <bool add, class Real>
KOKKOS_INLINE_FUNCTION void product(const TeamMember& team, int rows, int columns, int depth, const LeftFactor<Real>& a,
                                    const Real* b, std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  const auto whole = [=](int) { return DepthRange{0, depth}; };
  product_on_device<add>(team, rows, columns, whole, a, b, b_stride, c, c_stride);
}

template <class Real, class Range>
KOKKOS_INLINE_FUNCTION void product_of_ranges(const TeamMember& team, int rows, int columns, const Range& range,
                                              const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride, Real* c,
                                              std::int64_t c_stride) {
  product_on_device<true>(team, rows, columns, range, a, b, b_stride, c, c_stride);
}

}  // namespace detail

/// c[row, column] = Σ_k a(row, k) b[k, column] for row < rows, column < columns, k < depth. Whole vectors of b and c
/// are read and written: rows of b and c must have padded(columns) elements, the surplus ones being anything.
template <class Real>
KOKKOS_INLINE_FUNCTION void form_product(const Team& team, int rows, int columns, int depth, const LeftFactor<Real>& a,
                                         const Real* b, std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  detail::product<false>(team, rows, columns, depth, a, b, b_stride, c, c_stride);
}

/// The same, c[row, column] +=.
template <class Real>
KOKKOS_INLINE_FUNCTION void add_product(const Team& team, int rows, int columns, int depth, const LeftFactor<Real>& a,
                                        const Real* b, std::int64_t b_stride, Real* c, std::int64_t c_stride) {
  detail::product<true>(team, rows, columns, depth, a, b, b_stride, c, c_stride);
}

/// c[row, column] += Σ_k a(row, k) b[k, column] over the k in range(row), a DepthRange; neither end decreases from row
/// to row. What a row does not take is not multiplied: its factor may hold anything, and what overflowed in b stays
/// away, which a factor of 0 would not do (0 · infinity is NaN). Where b is finite the bits are those of add_product
/// with factors of 0 outside of the ranges.
template <class Real, class Range>
KOKKOS_INLINE_FUNCTION void add_product_of_ranges(const Team& team, int rows, int columns, const Range& range,
                                                  const LeftFactor<Real>& a, const Real* b, std::int64_t b_stride,
                                                  Real* c, std::int64_t c_stride) {
  detail::product_of_ranges(team, rows, columns, range, a, b, b_stride, c, c_stride);
}

/// Rows of a tile: element i of row r. On a host the elements of a row are neighbours; a GPU may have them as columns.
template <class Real>
struct TileRows {
  Real* data;
  int count, width;
  std::int64_t row_stride, element_stride;

  KOKKOS_INLINE_FUNCTION Real& operator()(int row, int i) const {
    if constexpr (on_host) {
      return data[row * row_stride + i];
    } else {
      return data[row * row_stride + i * element_stride];
    }
  }
};

/// tile[0 … stride) = row[0 … width), then zeros; zeros if row is null. stride: a multiple of the vector length.
/// Element: Real, or Bfloat16.
template <class Real, class Element>
inline void load_padded(const Element* row, int width, Real* tile, int stride) {
  for (int i = 0; i < stride; i += lanes<Real>) {
    const bool whole = row != nullptr && i + lanes<Real> <= width;
    store(tile + i, whole ? load<detail::Vector<Real>>(row + i) : detail::Vector<Real>{});
    if (whole || row == nullptr) continue;
    for (int k = i; k < width; ++k) tile[k] = row[k];
  }
}

template <class Real>
inline void load_padded(const StoredRow<Real>& row, int width, Real* tile, int stride) {
  with_elements(row, [&](const auto* elements) { load_padded(elements, width, tile, stride); });
}

/// Columns of rows as a product's tiles: tile(n) [depth, columns] = the columns from n·columns on of row(i), a pointer
/// to `width` elements, for i < depth; zeros beyond the width. Goes from row to row, so that each is read in one piece.
template <class Real, class Row, class Tile>
inline void pack_tiles([[maybe_unused]] const SerialTeam& team, int depth, std::int64_t width, int columns,
                       const Row& row, const Tile& tile) {
  for (int i = 0; i < depth; ++i) {
    const Real* source = row(i);
    for (std::int64_t first = 0; first < width; first += columns) {
      const int count = static_cast<int>(width - first < columns ? width - first : columns);
      load_padded(source + first, count, tile(first / columns) + std::int64_t{i} * columns, columns);
    }
  }
}

/// tile[row, 0 … stride) = source(row)[0 … width), then zeros, for row < rows; zeros where source(row), a pointer or a
/// StoredRow, is null.
template <class Real, class Source>
inline void load_padded_rows([[maybe_unused]] const SerialTeam& team, int rows, const Source& source, int width,
                             Real* tile, int stride) {
  for (int row = 0; row < rows; ++row) load_padded(source(row), width, tile + row * stride, stride);
}

template <class Real, class Source>
KOKKOS_INLINE_FUNCTION void load_padded_rows(const TeamMember& team, int rows, const Source& source, int width,
                                             Real* tile, int stride) {
  for_each_in_rows(team, rows, stride, [&](const int row) {
    const auto from = source(row);
    return [=](const int i) { tile[row * stride + i] = from != nullptr && i < width ? from[i] : Real(0); };
  });
}

}  // namespace bsbr::kernels
