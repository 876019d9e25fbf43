// First kernel family: softmax attention in tiles, with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022, FlashAttention).
//
//     output_t = Σ_s softmax_s( query_t · key_s · scale  over s in [lo(t), hi(t)) that exist ) value_s
//
// The range of keys is all that tells in-chunk attention, full attention and a sliding window apart; with chunks for tokens and whole
// states for values it is BSBR's retrieval. Memory: one tile of scratch, whatever the length or the chunk size.
//
// Scores are formed transposed, [key, query]: the softmax then runs down columns and vectorises over queries, sums over keys have one
// order, and keys and values are read as they lie in memory.
#pragma once

#include <Kokkos_Core.hpp>
#include <string>

#include "kernels/math.hpp"
#include "kernels/scratch.hpp"
#include "kernels/tile_product.hpp"

namespace bsbr::kernels {

/// Keys [begin, end) that a query sees. Both ends must not decrease from one query to the next.
struct KeyRange {
  std::int64_t begin, end;
};

// A Problem tells softmax_tiles what to compute; it is copied to the device.
//   data members
//     Real scale; int key_width, value_width;
//     std::int64_t groups             independent problems, such as batch × heads
//     std::int64_t first, last        queries [first, last) of each group. Queries and keys are numbered globally, since key tiles are cut
//     at
//                                     multiples of tuning::key_tile: a row's bits depend on where they are cut
//     std::int64_t key_stride         numbers between the rows of two successive keys
//   KOKKOS_FUNCTIONs, const
//     KeyRange range(query)
//     const Real* query(group, t), key(group, s), value(group, s)    contiguous rows
//     bool has_query(group, t)        without a query its row is not read, and its output is 0
//     bool has_key(group, s)          a key that does not exist is left out of the softmax; its row may hold anything
//     int null_keys(t)                further keys of score 0 with value 0
//     Real* output(group, t)          row to write

/// Scratch of one team; shapes in [ ].
template <class Real>
struct SoftmaxTile {
  Real* queries;        // [key_width, query_tile], scaled, transposed
  Real* scores;         // [key_tile, query_tile], then weights
  Real* values;         // [key_tile, padded value_width]
  Real* output;         // [query_tile, padded value_width], not yet divided by the sum
  Real* largest;        // [query_tile], largest score so far
  Real* total;          // [query_tile], sum of exp(score − largest) so far
  Real* rescale;        // [query_tile], what new maxima make of the older sums
  std::int32_t* begin;  // [query_tile], key range of each query, counted from `origin`
  std::int32_t* end;    // [query_tile]
  std::int64_t origin = 0;

  static constexpr int query_count = tuning::query_tile, key_count = tuning::key_tile;

  KOKKOS_INLINE_FUNCTION static std::int64_t bytes(int key_width, int value_width) {
    return scratch_bytes<Real>(std::int64_t{query_count} * key_width) + scratch_bytes<Real>(query_count * key_count) +
           scratch_bytes<Real>(std::int64_t{key_count} * padded<Real>(value_width)) +
           scratch_bytes<Real>(std::int64_t{query_count} * padded<Real>(value_width)) + 3 * scratch_bytes<Real>(query_count) +
           2 * scratch_bytes<std::int32_t>(query_count);
  }

  KOKKOS_INLINE_FUNCTION SoftmaxTile(const TeamMember& member, int key_width, int value_width) {
    Scratch scratch(member, bytes(key_width, value_width));
    queries = scratch.take<Real>(std::int64_t{query_count} * key_width);
    scores = scratch.take<Real>(query_count * key_count);
    values = scratch.take<Real>(std::int64_t{key_count} * padded<Real>(value_width));
    output = scratch.take<Real>(std::int64_t{query_count} * padded<Real>(value_width));
    largest = scratch.take<Real>(query_count);
    total = scratch.take<Real>(query_count);
    rescale = scratch.take<Real>(query_count);
    begin = scratch.take<std::int32_t>(query_count);
    end = scratch.take<std::int32_t>(query_count);
  }
};

namespace detail {

inline constexpr int query_tile = tuning::query_tile, key_tile = tuning::key_tile;

template <class Real>
inline constexpr Real minus_infinity = -std::numeric_limits<Real>::infinity();

/// Keys that some query of the tile sees, [begin, end), and those that all of them see, [all_begin, all_end).
struct TileRange {
  std::int64_t begin, end, all_begin, all_end;
};

template <class Problem>
KOKKOS_INLINE_FUNCTION TileRange tile_range(const Problem& problem, std::int64_t first, int count) {
  const KeyRange low = problem.range(first), high = problem.range(first + count - 1);
  return {low.begin, high.end, high.begin, low.end};
}

/// Loads queries [first, first + count) of a group and starts their sums.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void start_queries(const Team& team, const Problem& problem, std::int64_t group, std::int64_t first, int count,
                                          const SoftmaxTile<Real>& tile) {
  const int key_width = problem.key_width, value_stride = padded<Real>(problem.value_width);
  const Real scale = problem.scale;
  for_each(team, query_tile, [&](const int q) {
    const bool exists = q < count && problem.has_query(group, first + q);
    const KeyRange range = q < count ? problem.range(first + q) : KeyRange{tile.origin, tile.origin};
    const Real* row = exists ? problem.query(group, first + q) : nullptr;
    for (int k = 0; k < key_width; ++k) tile.queries[k * query_tile + q] = exists ? row[k] * scale : Real(0);
    const int null_keys = q < count ? problem.null_keys(first + q) : 0;
    tile.largest[q] = null_keys > 0 ? Real(0) : minus_infinity<Real>;
    tile.total[q] = static_cast<Real>(null_keys);
    tile.begin[q] = static_cast<std::int32_t>(range.begin - tile.origin);
    tile.end[q] = static_cast<std::int32_t>(range.end - tile.origin);
  });
  for_each(team, query_tile * value_stride, [&](const int i) { tile.output[i] = 0; });
}

/// values[s, :] of keys [begin, end) of the tile at `first`: zeros where there is no key, since 0 · infinity is not 0.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void load_values(const Team& team, const Problem& problem, std::int64_t group, std::int64_t first, int begin,
                                        int end, const SoftmaxTile<Real>& tile) {
  const int width = problem.value_width, stride = padded<Real>(width);
  for (int s = begin; s < end; ++s) {
    Real* row = tile.values + s * stride;
    const bool exists = problem.has_key(group, first + s);
    const Real* source = exists ? problem.value(group, first + s) : row;
    const int copied = exists ? width : 0;
    for_each(team, copied, [&](const int i) { row[i] = source[i]; });
    for_each(team, stride - copied, [&](const int i) { row[copied + i] = 0; });
  }
}

/// Columns (queries) of the scores that keys [key, last_key] may be seen by, in whole vectors. Ranges do not decrease, so they are
/// neighbours.
template <class Real>
KOKKOS_INLINE_FUNCTION void seen_by(const SoftmaxTile<Real>& tile, int count, std::int32_t key, std::int32_t last_key, int& begin,
                                    int& end) {
  begin = 0;
  while (begin < count && tile.end[begin] <= key) ++begin;
  end = count;
  while (end > begin && tile.begin[end - 1] > last_key) --end;
  begin = begin / lanes<Real> * lanes<Real>;
  end = padded<Real>(end);
}

/// scores[s, q] = key_s · query_q of keys [begin, end) of the tile, −∞ where a query does not see a key.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void form_scores(const Team& team, const Problem& problem, std::int64_t group, std::int64_t first, int begin,
                                        int end, int count, bool all_seen, const SoftmaxTile<Real>& tile) {
  const auto offset = static_cast<std::int32_t>(first - tile.origin);
  for_each(team, (end - begin) * query_tile, [&](const int i) { tile.scores[begin * query_tile + i] = 0; });
  for (int s = begin; s < end; s += tuning::micro_rows) {
    const int rows = end - s < tuning::micro_rows ? end - s : tuning::micro_rows;
    int from = 0, to = query_tile;
    if (!all_seen) seen_by(tile, count, offset + s, offset + s + rows - 1, from, to);
    add_product(team, rows, to - from, problem.key_width, LeftFactor<Real>{problem.key(group, first + s), problem.key_stride, 1},
                tile.queries + from, query_tile, tile.scores + s * query_tile + from, query_tile);
  }
  for (int s = begin; s < end; ++s) {
    const bool exists = problem.has_key(group, first + s);
    if (all_seen && exists) continue;
    Real* row = tile.scores + s * query_tile;
    const std::int32_t key = exists ? offset + s : -1;  // no range holds −1
    const std::int32_t *begins = tile.begin, *ends = tile.end;
    for_each(team, query_tile, [&](const int q) { row[q] = begins[q] <= key && key < ends[q] ? row[q] : minus_infinity<Real>; });
  }
}

/// Turns scores into weights exp(score − largest), and brings the sums up to date with the new maxima.
template <class Real>
KOKKOS_INLINE_FUNCTION void form_weights(const Team& team, int begin, int end, int value_stride, const SoftmaxTile<Real>& tile) {
  Real *scores = tile.scores, *largest = tile.largest, *total = tile.total, *rescale = tile.rescale;
  for_each(team, query_tile, [&](const int q) { rescale[q] = largest[q]; });
  for (int s = begin; s < end; ++s) {
    const Real* row = scores + s * query_tile;
    for_each(team, query_tile, [&](const int q) { largest[q] = row[q] > largest[q] ? row[q] : largest[q]; });
  }
  for_each(team, query_tile, [&](const int q) {
    const bool none = largest[q] == minus_infinity<Real>;
    rescale[q] = none ? Real(1) : exp_nonpositive(rescale[q] - largest[q]);
    total[q] *= rescale[q];
  });
  for (int s = begin; s < end; ++s) {
    Real* row = scores + s * query_tile;
    for_each(team, query_tile, [&](const int q) {
      const Real top = largest[q] == minus_infinity<Real> ? Real(0) : largest[q];
      row[q] = exp_nonpositive(row[q] - top);
      total[q] += row[q];
    });
  }
  for (int q = 0; q < query_tile; ++q) {
    const Real factor = rescale[q];
    Real* row = tile.output + q * value_stride;
    if (factor != Real(1)) for_each(team, value_stride, [&](const int i) { row[i] *= factor; });
  }
}

/// output[q, :] += Σ_s weights[s, q] values[s, :]; a block of queries takes only the keys that one of them sees.
template <class Real>
KOKKOS_INLINE_FUNCTION void add_values(const Team& team, std::int64_t first, int begin, int end, int count, int value_width,
                                       const SoftmaxTile<Real>& tile) {
  const int stride = padded<Real>(value_width);
  const auto offset = static_cast<std::int32_t>(first - tile.origin);
  for (int q = 0; q < count; q += tuning::micro_rows) {
    const int rows = count - q < tuning::micro_rows ? count - q : tuning::micro_rows;
    const int from = tile.begin[q] - offset > begin ? tile.begin[q] - offset : begin;
    const int to = tile.end[q + rows - 1] - offset < end ? tile.end[q + rows - 1] - offset : end;
    if (from >= to) continue;
    add_product(team, rows, value_width, to - from, LeftFactor<Real>{tile.scores + from * query_tile + q, 1, query_tile},
                tile.values + from * stride, stride, tile.output + q * stride, stride);
  }
}

/// Writes output / total; 0 where there was nothing to see.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void write_output(const Team& team, const Problem& problem, std::int64_t group, std::int64_t first, int count,
                                         const SoftmaxTile<Real>& tile) {
  const int width = problem.value_width, stride = padded<Real>(width);
  for (int q = 0; q < count; ++q) {
    const bool some = !(tile.total[q] <= 0) && problem.has_query(group, first + q);  // NaN, of scores that overflowed, is shown
    const Real factor = some ? Real(1) / tile.total[q] : Real(0);
    const Real* row = tile.output + q * stride;
    Real* target = problem.output(group, first + q);
    for_each(team, width, [&](const int i) { target[i] = row[i] * factor; });
  }
}

/// All of the queries [first, first + count) of one group.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void softmax_tile(const Team& team, const Problem& problem, std::int64_t group, std::int64_t first, int count,
                                         SoftmaxTile<Real> tile) {
  const TileRange range = tile_range(problem, first, count);
  tile.origin = range.begin;
  start_queries(team, problem, group, first, count, tile);
  for (std::int64_t keys = range.begin / key_tile * key_tile; keys < range.end; keys += key_tile) {
    const int begin = range.begin > keys ? static_cast<int>(range.begin - keys) : 0;
    const int end = range.end - keys < key_tile ? static_cast<int>(range.end - keys) : key_tile;
    const bool all_seen = count == query_tile && range.all_begin <= keys + begin && keys + end <= range.all_end;
    load_values(team, problem, group, keys, begin, end, tile);
    form_scores(team, problem, group, keys, begin, end, count, all_seen, tile);
    form_weights(team, begin, end, padded<Real>(problem.value_width), tile);
    add_values(team, keys, begin, end, count, problem.value_width, tile);
  }
  write_output(team, problem, group, first, count, tile);
}

}  // namespace detail

/// Computes every output row of the problem.
template <class Real, class Problem>
void softmax_tiles(const Execution& execution, const std::string& label, const Problem& problem) {
  constexpr int size = tuning::query_tile;
  if (problem.groups == 0 || problem.first >= problem.last) return;
  const std::int64_t first_tile = problem.first / size, tiles = (problem.last + size - 1) / size - first_tile;
  const std::int64_t bytes = SoftmaxTile<Real>::bytes(problem.key_width, problem.value_width);
  Kokkos::parallel_for(
      label, team_policy(execution, problem.groups * tiles, bytes), KOKKOS_LAMBDA(const TeamMember& member) {
        const std::int64_t group = member.league_rank() / tiles, index = first_tile + member.league_rank() % tiles;
        const std::int64_t begin = index * size > problem.first ? index * size : problem.first;
        const std::int64_t end = (index + 1) * size < problem.last ? (index + 1) * size : problem.last;
        detail::softmax_tile(as_team(member), problem, group, begin, static_cast<int>(end - begin),
                             SoftmaxTile<Real>(member, problem.key_width, problem.value_width));
      });
}

}  // namespace bsbr::kernels
