// First kernel family: softmax attention in tiles, with an online softmax (Milakov and Gimelshein 2018; Dao et al.
// 2022, FlashAttention).
//
//     output_t = Σ_s softmax_s( query_t · key_s · scale  over s in [lo(t), hi(t)) that exist ) value_s
//
// The range of keys is all that tells in-chunk attention, full attention and a sliding window apart; with chunks for
// tokens and whole states for values it is BSBR's retrieval. Memory: one tile of scratch, whatever the length or the
// chunk size.
//
// Scores are formed transposed, [key, query]: the softmax then runs down columns and vectorises over queries, sums over
// keys have one order, and keys and values are read as they lie in memory.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>

#include "config/causality.hpp"
#include "kernels/math.hpp"
#include "kernels/scratch.hpp"
#include "kernels/tile_product.hpp"
#include "kernels/transpose.hpp"

namespace bsbr::kernels {

/// The keys that a query sees. Both ends must not decrease from one query to the next.
using KeyRange = Range;

// A Problem tells softmax_tiles what to compute; it is copied to the device.
//   data members
//     Real scale; int key_width, value_width;
//     std::int64_t groups             independent problems, such as batch × heads
//     std::int64_t neighbours         so many of them have their rows side by side, such as heads: they are computed
//     one after the other std::int64_t unit               teams take whole units of so many queries, at most
//     most_queries_of_team(), counted from query 0: where
//                                     the queries of a unit are the only ones that see its keys, outputs may be written
//                                     over keys or values
//     std::int64_t first, last        queries [first, last) of each group. Queries and keys are numbered globally,
//     since tiles of keys are
//                                     cut at multiples of tuning::key_tile: a row's bits depend on where they are cut
//   KOKKOS_FUNCTIONs, const
//     KeyRange range(query)
//     const Real* query(group, t), key(group, s), value(group, s)    contiguous rows
//     bool has_query(group, t)        without a query its row is not read, and its output is 0
//     bool has_key(group, s)          a key that does not exist is left out of the softmax; its row may hold anything
//     int null_keys(t)                further keys of score 0 with value 0
//     Real* output(group, t)          row to write

namespace detail {

/// Queries and keys of a tile. division: 1, or 2 or 4 on a GPU where a team's scratch would otherwise not fit into
/// shared memory.
template <int division>
inline constexpr int queries_of = tuning::query_tile / division;
template <int division>
inline constexpr int keys_of = tuning::key_tile / division;

}  // namespace detail

/// One tile of queries: pieces of scratch, shapes in [ ].
template <class Real, int division>
struct QueryTile {
  std::int64_t first;   // query
  int count;            // queries
  std::int64_t origin;  // the first key that one of them sees: ranges are counted from it
  Real* queries;        // [key_width, query_tile], scaled, transposed
  Real* output;         // [query_tile, padded value_width], not yet divided by the sum
  Real* largest;        // [query_tile], largest score so far, times log₂ e as all scores here
  Real* total;          // [query_tile], sum of 2^(score − largest) so far
  std::int32_t* begin;  // [query_tile], key range of each query
  std::int32_t* end;    // [query_tile]
};

/// Scratch of one team: some tiles of queries, which meet each tile of keys in turn, so that keys and values are
/// fetched once for all.
template <class Real, int division>
struct SoftmaxTile {
  using Queries = QueryTile<Real, division>;
  static constexpr int query_count = detail::queries_of<division>, key_count = detail::keys_of<division>;
  static constexpr int sharers = on_host ? 0 : gpu_tuning::query_sharers;

  Real* keys;     // [key_tile, padded key_width]
  Real* values;   // [key_tile, padded value_width]
  Real* scores;   // [key_tile, query_tile], then weights
  Real* rescale;  // [query_tile], what new maxima make of the older sums
  Real* shared;   // [2, sharers, query_tile]: maxima and sums of each
  char* query_tiles;
  int key_width, value_width;

  /// Of one tile of queries.
  KOKKOS_INLINE_FUNCTION static std::int64_t query_bytes(int key_width, int value_width) {
    return scratch_bytes<Real>(std::int64_t{query_count} * key_width) +
           scratch_bytes<Real>(std::int64_t{query_count} * padded<Real>(value_width)) +
           2 * scratch_bytes<Real>(query_count) + 2 * scratch_bytes<std::int32_t>(query_count);
  }

  /// How many tiles of queries a team has: as many as fit into a fast cache.
  KOKKOS_INLINE_FUNCTION static int query_tiles_for(int key_width, int value_width) {
    const std::int64_t fit = tuning::softmax_bytes / query_bytes(key_width, value_width);
    if (fit < 1) return 1;
    return fit < tuning::most_query_tiles ? static_cast<int>(fit) : tuning::most_query_tiles;
  }

  /// Queries that one team can take.
  static std::int64_t most_queries(int key_width, int value_width) {
    return std::int64_t{query_count} * query_tiles_for(key_width, value_width);
  }

  KOKKOS_INLINE_FUNCTION static std::int64_t bytes(int key_width, int value_width) {
    return scratch_bytes<Real>(std::int64_t{key_count} * padded<Real>(key_width)) +
           scratch_bytes<Real>(std::int64_t{key_count} * padded<Real>(value_width)) +
           scratch_bytes<Real>(query_count * key_count) + scratch_bytes<Real>(query_count) +
           scratch_bytes<Real>(2 * sharers * query_count) +
           scratch_bytes<char>(query_tiles_for(key_width, value_width) * query_bytes(key_width, value_width));
  }

  KOKKOS_INLINE_FUNCTION SoftmaxTile(Scratch& scratch, int width_of_keys, int width_of_values)
      : keys(scratch.take<Real>(std::int64_t{key_count} * padded<Real>(width_of_keys))),
        values(scratch.take<Real>(std::int64_t{key_count} * padded<Real>(width_of_values))),
        scores(scratch.take<Real>(query_count * key_count)),
        rescale(scratch.take<Real>(query_count)),
        shared(scratch.take<Real>(2 * sharers * query_count)),
        query_tiles(scratch.take<char>(query_tiles_for(width_of_keys, width_of_values) *
                                       query_bytes(width_of_keys, width_of_values))),
        key_width(width_of_keys),
        value_width(width_of_values) {}

  /// The tile `index` of queries, which are [first, last) together.
  template <class Problem>
  KOKKOS_INLINE_FUNCTION Queries query_tile(const Problem& problem, std::int64_t first, std::int64_t last,
                                            int index) const {
    Queries tile;
    tile.first = first + std::int64_t{index} * query_count;
    tile.count = last - tile.first < query_count ? static_cast<int>(last - tile.first) : query_count;
    tile.origin = problem.range(tile.first).begin;
    Scratch scratch(query_tiles + index * query_bytes(key_width, value_width));
    tile.queries = scratch.take<Real>(std::int64_t{query_count} * key_width);
    tile.output = scratch.take<Real>(std::int64_t{query_count} * padded<Real>(value_width));
    tile.largest = scratch.take<Real>(query_count);
    tile.total = scratch.take<Real>(query_count);
    tile.begin = scratch.take<std::int32_t>(query_count);
    tile.end = scratch.take<std::int32_t>(query_count);
    return tile;
  }
};

/// f(std::integral_constant<int, division>) with the division that tiles of these widths have.
template <class Real, class Function>
auto with_softmax_tile(int key_width, int value_width, Function&& f) {
  return with_division([&](auto division) { return SoftmaxTile<Real, division>::bytes(key_width, value_width); }, f);
}

/// Scratch of a team, in bytes.
template <class Real>
std::int64_t softmax_scratch_bytes(int key_width, int value_width) {
  return with_softmax_tile<Real>(key_width, value_width, [&](auto division) {
    return SoftmaxTile<Real, division>::bytes(key_width, value_width);
  });
}

/// Queries that one team can take.
template <class Real>
std::int64_t most_queries_of_team(int key_width, int value_width) {
  return with_softmax_tile<Real>(key_width, value_width, [&](auto division) {
    return SoftmaxTile<Real, division>::most_queries(key_width, value_width);
  });
}

namespace detail {

/// Scores are in units of log₂ e, so that their weights are powers of 2: exp(score) = 2^(score · log₂ e).
inline constexpr double log2_e = 1.44269504088896340736;

template <class Real>
inline constexpr Real minus_infinity = -std::numeric_limits<Real>::infinity();

/// Keys that some of the queries of a tile, or of a part of it, see, [begin, end), and those that all of them see,
/// [all_begin, all_end). Ranges do not decrease: the first query's and the last one's say it.
template <class Integer>
struct KeysSeen {
  Integer begin, end, all_begin, all_end;
};

template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION KeysSeen<std::int64_t> keys_seen(const Problem& problem, const QueryTile<Real, division>& tile) {
  const KeyRange low = problem.range(tile.first), high = problem.range(tile.first + tile.count - 1);
  return {low.begin, high.end, high.begin, low.end};
}

/// The keys [begin, end) of a tile of keys, for one tile of queries, which counts keys from its origin.
struct KeysOfTile {
  std::int32_t offset;  // of the tile's key 0 from that origin
  int begin, end;

  KOKKOS_INLINE_FUNCTION KeysOfTile(std::int64_t first, std::int64_t origin, int begin_in_tile, int end_in_tile)
      : offset(static_cast<std::int32_t>(first - origin)), begin(begin_in_tile), end(end_in_tile) {}

  /// Where a key, counted from the origin, lies in the tile: `begin` if before it, `end` if behind it.
  KOKKOS_INLINE_FUNCTION int place(std::int32_t key) const {
    const int in_tile = key - offset;
    if (in_tile < begin) return begin;
    return in_tile < end ? in_tile : end;
  }
};

/// Loads the queries of a tile and starts their sums: largest = −∞, total = 0, output = 0; or, with null keys, whose
/// score is 0, largest = 0 and total = their number.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void start_queries(const Team& team, const Problem& problem, std::int64_t group,
                                          const QueryTile<Real, division>& tile) {
  constexpr int query_tile = queries_of<division>;
  const int value_stride = padded<Real>(problem.value_width);
  const auto row = [&](int q) -> const Real* {
    const std::int64_t t = tile.first + q;
    if (q >= tile.count || !problem.has_query(group, t)) return nullptr;
    const Real* query = problem.query(group, t);
    if (problem.neighbours > 1) prefetch(query + problem.key_width, problem.key_width);
    return query;
  };
  transpose_rows(team, query_tile, problem.key_width, static_cast<Real>(problem.scale * log2_e), row, tile.queries,
                 query_tile);
  for_each(team, query_tile, [&](const int q) {
    const std::int64_t t = tile.first + q;
    const bool within = q < tile.count;
    const KeyRange range = within ? problem.range(t) : KeyRange{tile.origin, tile.origin};
    const int null_keys = within ? problem.null_keys(t) : 0;
    tile.largest[q] = null_keys > 0 ? Real(0) : minus_infinity<Real>;
    tile.total[q] = static_cast<Real>(null_keys);
    tile.begin[q] = static_cast<std::int32_t>(range.begin - tile.origin);
    tile.end[q] = static_cast<std::int32_t>(range.end - tile.origin);
  });
  for_each(team, query_tile * value_stride, [&](const int i) { tile.output[i] = 0; });
}

/// keys[s, :] and values[s, :] of keys [begin, end) of the tile at `first`; zeros where there is no key, since 0 ·
/// infinity is not 0. Rows of a head lie far apart, often each on a page of its own, and hardware does not foresee
/// them: on a host those of the next tile, before last_key, and of the neighbour are asked for.
template <class Real, int division, class Problem>
inline void load_keys(const SerialTeam&, const Problem& problem, std::int64_t group, std::int64_t first, int begin,
                      int end, std::int64_t last_key, const SoftmaxTile<Real, division>& tile) {
  constexpr int key_tile = keys_of<division>;
  const int key_width = problem.key_width, value_width = problem.value_width;
  const int key_stride = padded<Real>(key_width), value_stride = padded<Real>(value_width);
  for (int s = begin; s < end; ++s) {
    const bool exists = problem.has_key(group, first + s);
    load_padded(exists ? problem.key(group, first + s) : nullptr, key_width, tile.keys + s * key_stride, key_stride);
    load_padded(exists ? problem.value(group, first + s) : nullptr, value_width, tile.values + s * value_stride,
                value_stride);
    if (problem.neighbours > 1) {
      prefetch(problem.key(group, first + s) + key_width, key_width);
      prefetch(problem.value(group, first + s) + value_width, value_width);
    }
    const std::int64_t next = first + s + key_tile;
    if (next >= last_key) continue;
    prefetch(problem.key(group, next), key_width);
    prefetch(problem.value(group, next), value_width);
  }
}

template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void load_keys(const TeamMember& team, const Problem& problem, std::int64_t group,
                                      std::int64_t first, int begin, int end, std::int64_t,
                                      const SoftmaxTile<Real, division>& tile) {
  const int key_stride = padded<Real>(problem.key_width), value_stride = padded<Real>(problem.value_width);
  const auto key = [&](int row) -> const Real* {
    const std::int64_t s = first + begin + row;
    return problem.has_key(group, s) ? problem.key(group, s) : nullptr;
  };
  const auto value = [&](int row) -> const Real* {
    const std::int64_t s = first + begin + row;
    return problem.has_key(group, s) ? problem.value(group, s) : nullptr;
  };
  load_padded_rows(team, end - begin, key, problem.key_width, tile.keys + begin * key_stride, key_stride);
  load_padded_rows(team, end - begin, value, problem.value_width, tile.values + begin * value_stride, value_stride);
}

/// Columns (queries) of the scores that keys [key, last_key] may be seen by, in whole vectors. Ranges do not decrease,
/// so they are neighbours.
template <class Real, int division>
KOKKOS_INLINE_FUNCTION void seen_by(const QueryTile<Real, division>& tile, std::int32_t key, std::int32_t last_key,
                                    int& begin, int& end) {
  begin = 0;
  while (begin < tile.count && tile.end[begin] <= key) ++begin;
  end = tile.count;
  while (end > begin && tile.begin[end - 1] > last_key) --end;
  begin = begin / lanes<Real> * lanes<Real>;
  end = padded<Real>(end);
}

/// scores[s, q] = key_s · query_q, where a query may see the key.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void form_scores(const Team& team, const Problem& problem, const KeysOfTile& keys, bool all_seen,
                                        const QueryTile<Real, division>& queries,
                                        const SoftmaxTile<Real, division>& tile) {
  constexpr int query_tile = queries_of<division>, key_tile = keys_of<division>;
  const int key_stride = padded<Real>(problem.key_width);
  constexpr int step = on_host ? HostSizes::micro_rows : key_tile;  // a host leaves out more of a triangle
  for (int s = keys.begin; s < keys.end; s += step) {
    const int rows = keys.end - s < step ? keys.end - s : step;
    int from = 0, to = query_tile;
    if (!all_seen) seen_by(queries, keys.offset + s, keys.offset + s + rows - 1, from, to);
    form_product(team, rows, to - from, problem.key_width, LeftFactor<Real>{tile.keys + s * key_stride, key_stride, 1},
                 queries.queries + from, query_tile, tile.scores + s * query_tile + from, query_tile);
  }
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

/// Consecutive queries of a tile, as many as a vector has lanes: where their ranges begin and end, counted from the
/// tile's origin, and what they see of a tile of keys.
template <class Real>
struct QueryVector {
  static constexpr int width = lanes<Real>;
  const std::int32_t *begins, *ends;
  KeysSeen<int> seen;

  template <int division>
  QueryVector(const QueryTile<Real, division>& queries, int q, const KeysOfTile& keys)
      : begins(queries.begin + q), ends(queries.end + q) {
    const int last = queries.count - q < width ? queries.count - q - 1 : width - 1;
    seen = {keys.place(begins[0]), keys.place(ends[last]), keys.place(begins[last]), keys.place(ends[0])};
  }

  bool all_see(int s) const { return seen.all_begin <= s && s < seen.all_end; }
};

/// scores[s, q] = −∞ for the queries that do not see key s of a tile, which is number `key` in their ranges; key < 0:
/// for all of them.
template <class Real>
inline void mask_scores(const QueryVector<Real>& queries, std::int32_t key, Real* row) {
  for (int i = 0; i < queries.width; ++i)
    row[i] = queries.begins[i] <= key && key < queries.ends[i] ? row[i] : minus_infinity<Real>;
}

/// max(largest, max_s scores[s, q]) over the keys that q sees; the scores of others become −∞. scores: of key 0 and
/// these queries.
template <class Real, class Exists>
inline Vector<Real> new_maxima(const QueryVector<Real>& queries, const KeysOfTile& keys, const Exists& exists,
                               Vector<Real> largest, Real* scores, int stride) {
  for (int s = queries.seen.begin; s < queries.seen.end; ++s) {
    Real* row = scores + s * stride;
    if (!queries.all_see(s) || !exists(s)) mask_scores(queries, exists(s) ? keys.offset + s : -1, row);
    const auto score = load<Vector<Real>>(row);
    largest = score > largest ? score : largest;
  }
  return largest;
}

/// weights[s, q] = 2^(scores[s, q] − shift[q]), in the scores' place; total[q] + Σ_s weights[s, q]
template <class Real>
inline Vector<Real> weights_and_sums(const QueryVector<Real>& queries, Vector<Real> shift, Vector<Real> total,
                                     Real* scores, int stride) {
  for (int s = queries.seen.begin; s < queries.seen.end; ++s) {
    Real* row = scores + s * stride;
    const Vector<Real> weight = exp2_of_vector<Real>(load<Vector<Real>>(row) - shift);
    store(row, weight);
    total += weight;
  }
  return total;
}

/// Turns the scores of what a query sees into weights, and brings its sums up to date, of which the older are to be
/// multiplied by `rescale`:
///
///     largest' = max(largest, max_s score_s),  rescale = 2^(largest − largest'),
///     weight_s = 2^(score_s − largest'),       total' = rescale · total + Σ_s weight_s
///
/// weight_s is 0 where a key does not exist. exists(s): whether there is a key s of the tile.
///
/// On a host, vectors of queries one after the other: their maxima and sums stay in registers, and of a triangle only
/// the half that is seen is computed.
template <class Real, int division, class Exists>
inline void form_weights(const SerialTeam&, const KeysOfTile& keys, const Exists& exists,
                         const QueryTile<Real, division>& queries, const SoftmaxTile<Real, division>& tile) {
  constexpr int stride = queries_of<division>;
  const Vector<Real> nothing = Vector<Real>{} + minus_infinity<Real>;
  for (int q = 0; q < queries.count; q += lanes<Real>) {
    const QueryVector<Real> some(queries, q, keys);
    Real* scores = tile.scores + q;
    const auto before = load<Vector<Real>>(queries.largest + q);
    const Vector<Real> largest = new_maxima<Real>(some, keys, exists, before, scores, stride);
    const Vector<Real> shift = largest == nothing ? Vector<Real>{} : largest;
    const Vector<Real> difference =
        before == nothing ? Vector<Real>{} : before - shift;  // of sums that are 0 nothing is changed
    const Vector<Real> rescale = exp2_of_vector<Real>(difference);
    store(tile.rescale + q, rescale);
    store(queries.largest + q, largest);
    const Vector<Real> total = load<Vector<Real>>(queries.total + q) * rescale;
    store(queries.total + q, weights_and_sums<Real>(some, shift, total, scores, stride));
  }
}

/// On a GPU `sharers` threads for each query: each takes every so-many-th key of the tile (bits), and what they have
/// found meets in scratch.
template <class Real, int division, class Exists>
KOKKOS_INLINE_FUNCTION void form_weights(const TeamMember& team, const KeysOfTile& keys, const Exists& exists,
                                         const QueryTile<Real, division>& queries,
                                         const SoftmaxTile<Real, division>& tile) {
  constexpr int query_tile = queries_of<division>;
  constexpr int sharers = SoftmaxTile<Real, division>::sharers;
  // The first key of a sharer.
  const auto first_of = [&](int sharer) { return keys.begin + (sharer + sharers - keys.begin % sharers) % sharers; };
  Real *tops = tile.shared, *sums = tile.shared + sharers * query_tile;  // [sharer, query]

  // tops[sharer, q] = max_s scores[s, q] over the sharer's keys that q sees
  for_each(team, sharers * query_tile, [&](const int i) {
    const int q = i % query_tile;
    Real top = minus_infinity<Real>;
    for (int s = first_of(i / query_tile); s < keys.end; s += sharers) {
      const std::int32_t key = keys.offset + s;
      Real& score = tile.scores[s * query_tile + q];
      if (key < queries.begin[q] || key >= queries.end[q] || !exists(s)) score = minus_infinity<Real>;
      top = score > top ? score : top;
    }
    tops[i] = top;
  });
  const auto top_of = [&](int q) {
    Real top = queries.largest[q];
    for (int i = q; i < sharers * query_tile; i += query_tile) top = tops[i] > top ? tops[i] : top;
    return top;
  };

  // weights[s, q] = 2^(scores[s, q] − largest'), sums[sharer, q] = Σ_s weights[s, q]
  for_each(team, sharers * query_tile, [&](const int i) {
    const int q = i % query_tile;
    const Real top = top_of(q), shift = top == minus_infinity<Real> ? Real(0) : top;
    Real sum = 0;
    for (int s = first_of(i / query_tile); s < keys.end; s += sharers) {
      Real& weight = tile.scores[s * query_tile + q];
      weight = exp2_nonpositive(weight - shift);
      sum += weight;
    }
    sums[i] = sum;
  });

  // rescale = 2^(largest − largest'), total' = rescale · total + Σ_sharer sums[sharer, q]
  for_each(team, query_tile, [&](const int q) {
    const Real top = top_of(q),
               factor = top == minus_infinity<Real> ? Real(1) : exp2_nonpositive(queries.largest[q] - top);
    Real sum = queries.total[q] * factor;
    for (int i = q; i < sharers * query_tile; i += query_tile) sum += sums[i];
    tile.rescale[q] = factor;
    queries.largest[q] = top;
    queries.total[q] = sum;
  });
}

/// output[q, :] *= rescale[q]; a host passes over the rows whose maximum has stayed.
template <class Real, int division>
inline void rescale_output(const SerialTeam& team, int value_stride, const QueryTile<Real, division>& queries,
                           const SoftmaxTile<Real, division>& tile) {
  for (int q = 0; q < queries.count; ++q) {
    const Real factor = tile.rescale[q];
    Real* row = queries.output + q * value_stride;
    if (factor != Real(1)) for_each(team, value_stride, [&](const int i) { row[i] *= factor; });
  }
}

template <class Real, int division>
KOKKOS_INLINE_FUNCTION void rescale_output(const TeamMember& team, int value_stride,
                                           const QueryTile<Real, division>& queries,
                                           const SoftmaxTile<Real, division>& tile) {
  for_each(team, queries.count * value_stride,
           [&](const int i) { queries.output[i] *= tile.rescale[i / value_stride]; });
}

/// output[q, :] += Σ_s weights[s, q] values[s, :] over the keys that the query sees.
template <class Real, int division>
KOKKOS_INLINE_FUNCTION void add_values(const Team& team, const KeysOfTile& keys,
                                       const QueryTile<Real, division>& queries,
                                       const SoftmaxTile<Real, division>& tile) {
  constexpr int query_tile = queries_of<division>;
  const int stride = padded<Real>(tile.value_width);
  add_product_of_ranges(
      team, queries.count, tile.value_width,
      [&](int q) {
        return DepthRange{keys.place(queries.begin[q]), keys.place(queries.end[q])};
      },
      LeftFactor<Real>{tile.scores, 1, query_tile}, tile.values, stride, queries.output, stride);
}

/// Writes output / total; 0 where there was nothing to see. NaN, of scores that overflowed, is shown: also where all
/// that a query sees has the score −∞, so that its weights have no sum.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void write_output(const Team& team, const Problem& problem, std::int64_t group,
                                         const QueryTile<Real, division>& tile) {
  const int width = problem.value_width, stride = padded<Real>(width);
  std::int64_t next = tile.origin;  // no key before this one exists that this or a later query sees
  const auto sees_a_key = [&](std::int64_t t) {
    const KeyRange range = problem.range(t);
    if (next < range.begin) next = range.begin;
    while (next < range.end && !problem.has_key(group, next)) ++next;
    return next < range.end;
  };
  for_each_in_rows(team, tile.count, width, [&](const int q) {
    const std::int64_t t = tile.first + q;
    const bool some = problem.has_query(group, t) && (tile.total[q] != 0 || sees_a_key(t));
    const Real factor = Real(1) / tile.total[q];
    const Real* row = tile.output + q * stride;
    Real* target = problem.output(group, t);
    return [=](const int i) { target[i] = some ? row[i] * factor : Real(0); };
  });
}

/// What one tile of queries sees of one tile of keys.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void attend_tile(const Team& team, const Problem& problem, std::int64_t group,
                                        std::int64_t first_key, const QueryTile<Real, division>& queries,
                                        const SoftmaxTile<Real, division>& tile) {
  constexpr int query_tile = queries_of<division>, key_tile = keys_of<division>;
  const KeysSeen<std::int64_t> seen = keys_seen(problem, queries);
  if (seen.begin >= first_key + key_tile || seen.end <= first_key) return;
  const int begin = seen.begin > first_key ? static_cast<int>(seen.begin - first_key) : 0;
  const int end = seen.end - first_key < key_tile ? static_cast<int>(seen.end - first_key) : key_tile;
  const bool all_seen =
      queries.count == query_tile && seen.all_begin <= first_key + begin && first_key + end <= seen.all_end;
  const KeysOfTile keys(first_key, queries.origin, begin, end);
  form_scores(team, problem, keys, all_seen, queries, tile);
  form_weights(
      team, keys, [&](int s) { return problem.has_key(group, first_key + s); }, queries, tile);
  rescale_output(team, padded<Real>(problem.value_width), queries, tile);
  add_values(team, keys, queries, tile);
}

/// All of the queries [first, last) of one group, no more than the tiles hold.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void softmax_tile(const Team& team, const Problem& problem, std::int64_t group,
                                         std::int64_t first, std::int64_t last,
                                         const SoftmaxTile<Real, division>& tile) {
  constexpr int query_tile = queries_of<division>, key_tile = keys_of<division>;
  const int tiles = static_cast<int>((last - first + query_tile - 1) / query_tile);
  const auto queries = [&](int index) { return tile.query_tile(problem, first, last, index); };

  // largest = −∞, total = 0, output = 0
  for (int i = 0; i < tiles; ++i) start_queries(team, problem, group, queries(i));

  // output = Σ_s 2^(score_s − largest) value_s, total = Σ_s 2^(score_s − largest), over the keys so far
  const KeyRange seen{problem.range(first).begin, problem.range(last - 1).end};
  for (std::int64_t keys = seen.begin / key_tile * key_tile; keys < seen.end; keys += key_tile) {
    const int begin = seen.begin > keys ? static_cast<int>(seen.begin - keys) : 0;
    const int end = seen.end - keys < key_tile ? static_cast<int>(seen.end - keys) : key_tile;
    load_keys(team, problem, group, keys, begin, end, seen.end, tile);
    for (int i = 0; i < tiles; ++i) attend_tile(team, problem, group, keys, queries(i), tile);
  }

  // output / total
  for (int i = 0; i < tiles; ++i) write_output(team, problem, group, queries(i));
}

}  // namespace detail

/// How the queries of a problem are cut into teams, each of which takes `size` of them of one group, [index · size,
/// (index + 1) · size). How they are cut changes no bit.
struct QueryTeams {
  std::int64_t size;              // queries of a team: whole units
  std::int64_t first, per_group;  // teams of each group, counted from query 0
  std::int64_t groups, neighbours;
  std::int64_t begin, end;  // the queries that are wanted

  /// The queries [first, last) of a group.
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

/// Large teams, since they fetch keys less often; but each thread should have some teams.
template <class Real, int division, class Problem>
QueryTeams query_teams(const Execution& execution, const Problem& problem) {
  constexpr int query_tile = detail::queries_of<division>;
  const std::int64_t most_tiles = SoftmaxTile<Real, division>::query_tiles_for(problem.key_width, problem.value_width);
  const std::int64_t tiles = problem.groups * ((problem.last - problem.first) / query_tile + 1);
  const std::int64_t tiles_of_team = tiles / (tuning::teams_per_thread * concurrent_teams(execution));
  const std::int64_t queries = query_tile * std::clamp<std::int64_t>(tiles_of_team, 1, most_tiles);
  const std::int64_t size = std::max<std::int64_t>(1, queries / problem.unit) * problem.unit;
  const std::int64_t first = problem.first / size, last = (problem.last + size - 1) / size;
  return {size, first, last - first, problem.groups, problem.neighbours, problem.first, problem.last};
}

/// softmax_tiles() with tiles of a division.
template <class Real, int division, class Problem>
void softmax_tiles_of(const Execution& execution, const std::string& label, const Problem& problem) {
  using Tile = SoftmaxTile<Real, division>;
  const std::int64_t bytes = Tile::bytes(problem.key_width, problem.value_width);
  const QueryTeams teams = query_teams<Real, division>(execution, problem);
  const std::int64_t together =
      taken_together(execution, teams.count(), problem.neighbours, tuning::softmax_groups_per_thread);
  Kokkos::parallel_for(
      label, team_policy(execution, teams.count(), bytes, together), KOKKOS_LAMBDA(const TeamMember& member) {
        const QueryTeams::Work work = teams.work(member.league_rank());
        Scratch scratch(member, bytes);
        const Tile tile(scratch, problem.key_width, problem.value_width);
        detail::softmax_tile(as_team(member), problem, work.group, work.first, work.last, tile);
      });
}

/// Computes every output row of the problem.
template <class Real, class Problem>
void softmax_tiles(const Execution& execution, const std::string& label, const Problem& problem) {
  if (problem.groups == 0 || problem.first >= problem.last) return;
  with_softmax_tile<Real>(problem.key_width, problem.value_width,
                          [&](auto division) { softmax_tiles_of<Real, division>(execution, label, problem); });
}

}  // namespace bsbr::kernels
