// What softmax attention and its gradients have in common: tiles of scores, [row, column], whose columns take ranges of
// the rows.
//
// Columns stay where they are while tiles of rows pass by: in the forward pass and in the gradient of queries the
// columns are queries, each of which takes the range of keys that it sees; in the gradient of keys they are keys, each
// of which takes the queries that see it. Loops vectorise over columns, and sums over rows have one order.
#pragma once

#include <Kokkos_Core.hpp>
#include <type_traits>

#include "config/causality.hpp"
#include "kernels/math.hpp"
#include "kernels/scratch.hpp"
#include "kernels/stored_row.hpp"
#include "kernels/tile_product.hpp"
#include "kernels/transpose.hpp"

namespace bsbr::kernels {

/// The keys that a query sees. Both ends must not decrease from one query to the next.
using KeyRange = Range;

/// The columns of a tile, and which rows each of them takes.
struct TileColumns {
  std::int64_t first;   // column
  int count;            // columns
  std::int64_t origin;  // the first row that one of them takes: ranges are counted from it
  std::int32_t* begin;  // [column_tile], range of each column
  std::int32_t* end;    // [column_tile]
};

namespace detail {

/// Columns and rows of a tile. division: 1, or 2 or 4 on a GPU where a team's scratch would otherwise not fit into
/// shared memory.
template <int division>
inline constexpr int columns_of = tuning::query_tile / division;
template <int division>
inline constexpr int rows_of = tuning::key_tile / division;

/// Scores are in units of log₂ e, so that their weights are powers of 2: exp(score) = 2^(score · log₂ e).
inline constexpr double log2_e = 1.44269504088896340736;

/// Rows that some of the columns of a tile, or of a part of it, take, [begin, end), and those that all of them take,
/// [all_begin, all_end). Ranges do not decrease: the first column's and the last one's say it.
template <class Integer>
struct RowsTaken {
  Integer begin, end, all_begin, all_end;
};

/// By the columns of a tile, of which range(column) is the range.
template <class RangeOf>
KOKKOS_INLINE_FUNCTION RowsTaken<std::int64_t> rows_taken(const TileColumns& columns, const RangeOf& range) {
  const Range low = range(columns.first), high = range(columns.first + columns.count - 1);
  return {low.begin, high.end, high.begin, low.end};
}

/// The rows [begin, end) of a tile of rows: those that some column of a tile takes, which counts rows from its origin.
struct RowsOfTile {
  std::int32_t offset;  // of the tile's row 0 from that origin
  int begin, end;
  bool all_taken;  // by all columns, and the tile is full of columns

  /// Of the `row_tile` rows from `first` on.
  KOKKOS_INLINE_FUNCTION RowsOfTile(std::int64_t first, int row_tile, const RowsTaken<std::int64_t>& taken,
                                    const TileColumns& columns, int column_tile)
      : offset(static_cast<std::int32_t>(first - columns.origin)), begin(0), end(0), all_taken(false) {
    if (taken.begin >= first + row_tile || taken.end <= first) return;
    begin = taken.begin > first ? static_cast<int>(taken.begin - first) : 0;
    end = taken.end - first < row_tile ? static_cast<int>(taken.end - first) : row_tile;
    all_taken = columns.count == column_tile && taken.all_begin <= first + begin && first + end <= taken.all_end;
  }

  KOKKOS_INLINE_FUNCTION bool empty() const { return begin >= end; }

  /// Where a row, counted from the origin, lies in the tile: `begin` if before it, `end` if behind it.
  KOKKOS_INLINE_FUNCTION int place(std::int32_t row) const {
    const int in_tile = row - offset;
    if (in_tile < begin) return begin;
    return in_tile < end ? in_tile : end;
  }

  /// The rows that a column takes.
  KOKKOS_INLINE_FUNCTION DepthRange taken_by(const TileColumns& columns, int column) const {
    return {place(columns.begin[column]), place(columns.end[column])};
  }
};

/// The ranges of a tile's columns, counted from its origin; those of columns that there are none of are empty.
template <class RangeOf>
KOKKOS_INLINE_FUNCTION void set_ranges(const Team& team, const TileColumns& columns, int column_tile,
                                       const RangeOf& range_of) {
  for_each(team, column_tile, [&](const int c) {
    const Range range = c < columns.count ? range_of(columns.first + c) : Range{columns.origin, columns.origin};
    columns.begin[c] = static_cast<std::int32_t>(range.begin - columns.origin);
    columns.end[c] = static_cast<std::int32_t>(range.end - columns.origin);
  });
}

/// Two rows for each number: a key and its value, or a query and the gradient of its output.
///   Source: copied to the device
///     int first_width, second_width
///     std::int64_t neighbours              so many rows lie side by side, and their groups are computed one after the
///                                          other
///     bool exists(row), first(row), second(row): pointers, or StoredRows
///
/// Prefetches what follows a row and its second: those of the neighbour, and those of the next tile, before `last`.
/// Rows of a head lie far apart, often each on a page of its own, and hardware does not foresee them.
template <class Source>
[[gnu::always_inline]] inline void prefetch_after(const Source& source, std::int64_t row, int row_tile,
                                                  std::int64_t last) {
  if (source.neighbours > 1) {
    prefetch_next_head(source.first(row), source.first_width);
    prefetch_next_head(source.second(row), source.second_width);
  }
  if (row + row_tile >= last) return;
  prefetch(source.first(row + row_tile), source.first_width);
  prefetch(source.second(row + row_tile), source.second_width);
}

/// Fills rows [begin, end) of two tiles of rows, of which row 0 is number `first`; zeros where there is no row, since 0
/// · infinity is not 0. Those that a host needs next are prefetched.
template <class Real, class Source>
inline void load_rows_of_tile(const SerialTeam&, const Source& source, std::int64_t first, int row_tile, int begin,
                              int end, std::int64_t last, Real* first_tile, Real* second_tile) {
  const int first_width = source.first_width, second_width = source.second_width;
  const int first_stride = padded<Real>(first_width), second_stride = padded<Real>(second_width);
  for (int r = begin; r < end; ++r) {
    const bool exists = source.exists(first + r);
    const auto of_first = source.first(first + r), of_second = source.second(first + r);
    load_padded(exists ? of_first : decltype(of_first){}, first_width, first_tile + r * first_stride, first_stride);
    load_padded(exists ? of_second : decltype(of_second){}, second_width, second_tile + r * second_stride,
                second_stride);
    prefetch_after(source, first + r, row_tile, last);
  }
}

template <class Real, class Source>
KOKKOS_INLINE_FUNCTION void load_rows_of_tile(const TeamMember& team, const Source& source, std::int64_t first, int,
                                              int begin, int end, std::int64_t, Real* first_tile, Real* second_tile) {
  const int first_stride = padded<Real>(source.first_width), second_stride = padded<Real>(source.second_width);
  const auto first_row = [&](int row) {
    const std::int64_t s = first + begin + row;
    return source.exists(s) ? source.first(s) : decltype(source.first(s)){};
  };
  const auto second_row = [&](int row) {
    const std::int64_t s = first + begin + row;
    return source.exists(s) ? source.second(s) : decltype(source.second(s)){};
  };
  load_padded_rows(team, end - begin, first_row, source.first_width, first_tile + begin * first_stride, first_stride);
  load_padded_rows(team, end - begin, second_row, source.second_width, second_tile + begin * second_stride,
                   second_stride);
}

/// The keys of a group and their values, as load_rows_of_tile takes them.
template <class Problem>
struct KeyRows {
  const Problem& problem;
  std::int64_t group, neighbours;
  int first_width, second_width;

  KOKKOS_INLINE_FUNCTION KeyRows(const Problem& of_problem, std::int64_t of_group)
      : problem(of_problem),
        group(of_group),
        neighbours(of_problem.neighbours),
        first_width(of_problem.key_width),
        second_width(of_problem.value_width) {}

  KOKKOS_INLINE_FUNCTION bool exists(std::int64_t s) const { return problem.has_key(group, s); }
  KOKKOS_INLINE_FUNCTION auto first(std::int64_t s) const { return problem.key(group, s); }
  KOKKOS_INLINE_FUNCTION auto second(std::int64_t s) const { return problem.value(group, s); }
};

/// Columns [begin, end), in whole vectors, that may take one of the rows [row, last_row], which are counted from the
/// origin. Ranges do not decrease, so they are neighbours.
template <class Real>
KOKKOS_INLINE_FUNCTION void columns_that_take(const TileColumns& columns, std::int32_t row, std::int32_t last_row,
                                              int& begin, int& end) {
  begin = 0;
  while (begin < columns.count && columns.end[begin] <= row) ++begin;
  end = columns.count;
  while (end > begin && columns.begin[end - 1] > last_row) --end;
  begin = begin / lanes<Real> * lanes<Real>;
  end = padded<Real>(end);
}

/// products[r, c] = row_r · column_c, of `width` elements, where a column may take the row.
///   of_rows     [row_tile, padded width]
///   of_columns  [width, column_tile], transposed
template <int column_tile, int row_tile, class Real>
KOKKOS_INLINE_FUNCTION void form_pair_products(const Team& team, const RowsOfTile& rows, const TileColumns& columns,
                                               int width, const Real* of_rows, const Real* of_columns, Real* products) {
  const int stride = padded<Real>(width);
  constexpr int step = on_host ? HostSizes::micro_rows : row_tile;  // a host leaves out more of a triangle
  for (int r = rows.begin; r < rows.end; r += step) {
    const int count = rows.end - r < step ? rows.end - r : step;
    int from = 0, to = column_tile;
    if (!rows.all_taken) columns_that_take<Real>(columns, rows.offset + r, rows.offset + r + count - 1, from, to);
    form_product(team, count, to - from, width, LeftFactor<Real>{of_rows + r * stride, stride, 1}, of_columns + from,
                 column_tile, products + r * column_tile + from, column_tile);
  }
}

/// sums[c, :] += Σ_r factors[r, c] row_r over the rows that the column takes.
///   factors  [row_tile, column_tile]; may hold anything where a column does not take the row
///   of_rows  [row_tile, padded width]
///   sums     [column_tile, padded width]
template <int column_tile, class Real>
KOKKOS_INLINE_FUNCTION void add_rows(const Team& team, const RowsOfTile& rows, const TileColumns& columns, int width,
                                     const Real* factors, const Real* of_rows, Real* sums) {
  const int stride = padded<Real>(width);
  add_product_of_ranges(
      team, columns.count, width, [&](int c) { return rows.taken_by(columns, c); },
      LeftFactor<Real>{factors, 1, column_tile}, of_rows, stride, sums, stride);
}

/// 2^x of each number of a vector.
template <class Real>
inline Vector<Real> exp2_of_vector(Vector<Real> x) {
  if constexpr (std::is_same_v<Real, float>) {
    using Bits [[gnu::vector_size(tuning::vector_bytes)]] = std::uint32_t;
    return exp2_nonpositive<Vector<float>, Bits>(x);
  } else {
    for (int i = 0; i < lanes<Real>; ++i) x[i] = exp2_nonpositive(x[i]);
    return x;
  }
}

/// Consecutive columns of a tile, as many as a vector has lanes: where their ranges begin and end, counted from the
/// tile's origin, and what they take of a tile of rows.
template <class Real>
struct ColumnVector {
  static constexpr int width = lanes<Real>;
  const std::int32_t *begins, *ends;
  RowsTaken<int> taken;

  ColumnVector(const TileColumns& columns, int c, const RowsOfTile& rows)
      : begins(columns.begin + c), ends(columns.end + c) {
    const int last = columns.count - c < width ? columns.count - c - 1 : width - 1;
    taken = {rows.place(begins[0]), rows.place(ends[last]), rows.place(begins[last]), rows.place(ends[0])};
  }

  bool all_take(int r) const { return taken.all_begin <= r && r < taken.all_end; }

  /// Whether column i of these takes a row, which is counted from the tile's origin.
  bool takes(int i, std::int32_t row) const { return begins[i] <= row && row < ends[i]; }
};

}  // namespace detail

/// How the columns of a problem are cut into teams, each of which takes `size` of them of one group, [index · size,
/// (index + 1) · size). How they are cut changes no bit.
struct ColumnTeams {
  std::int64_t size;              // columns of a team
  std::int64_t first, per_group;  // teams of each group, counted from column 0
  std::int64_t groups, neighbours;
  std::int64_t begin, end;  // the columns that are wanted

  ColumnTeams(std::int64_t size_of_team, std::int64_t all_groups, std::int64_t neighbouring_groups,
              std::int64_t first_column, std::int64_t last_column)
      : size(size_of_team),
        first(first_column / size_of_team),
        per_group((last_column + size_of_team - 1) / size_of_team - first),
        groups(all_groups),
        neighbours(neighbouring_groups),
        begin(first_column),
        end(last_column) {}

  /// The columns [first, last) of a group.
  struct Work {
    std::int64_t group, first, last;
  };

  std::int64_t count() const { return groups * per_group; }

  /// Of a team: neighbouring groups follow each other.
  KOKKOS_INLINE_FUNCTION Work work(std::int64_t team) const {
    const std::int64_t neighbour = team % neighbours, others = team / neighbours;
    const std::int64_t group = others / per_group * neighbours + neighbour, from = (first + others % per_group) * size,
                       to = from + size;
    return {group, from > begin ? from : begin, to < end ? to : end};
  }
};

}  // namespace bsbr::kernels
