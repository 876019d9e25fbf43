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
#include <cmath>
#include <string>

#include "kernels/softmax_parts.hpp"

namespace bsbr::kernels {

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
//     Real null_score(group)          their score if it is another; a problem need not have it
//     Real* output(group, t)          row to write
//   and, if the gradients are to be formed later (softmax_gradient.hpp),
//     Real& log_sum(group, t)         gets log₂ Σ_s 2^(score_s · log₂ e), null keys among them: −∞ where there is
//                                     nothing to see, NaN where all scores are −∞

/// One tile of queries, which are its columns: pieces of scratch, shapes in [ ].
template <class Real>
struct QueryTile : TileColumns {
  Real* queries;  // [key_width, query_tile], scaled, transposed
  Real* output;   // [query_tile, padded value_width], not yet divided by the sum
  Real* largest;  // [query_tile], largest score so far, times log₂ e as all scores here
  Real* total;    // [query_tile], sum of 2^(score − largest) so far
};

/// Scratch of one team: some tiles of queries, which meet each tile of keys in turn, so that keys and values are
/// fetched once for all.
template <class Real, int division>
struct SoftmaxTile {
  using Queries = QueryTile<Real>;
  static constexpr int query_count = detail::columns_of<division>, key_count = detail::rows_of<division>;
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

/// The problem asks for the log-sums of its queries.
template <class Problem>
inline constexpr bool keeps_log_sums = requires(const Problem& problem) {
  problem.log_sum(0, 0);
};

/// Rows of the problem may be packed: keys.packed says whether they are.
template <class Real, class Problem>
inline constexpr bool may_be_packed = StoredRow<Real>::may_be_packed&& requires(const Problem& problem) {
  problem.keys.packed;
};

/// The score of null keys, times log₂ e.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION Real score_of_null_keys(const Problem& problem, [[maybe_unused]] std::int64_t group) {
  if constexpr (requires { problem.null_score(group); }) {
    return static_cast<Real>(problem.null_score(group) * log2_e);
  } else {
    return 0;
  }
}

/// Starts the sums of a query that has so many null keys: the score of these and their number, or −∞ and 0.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void start_sums(const Problem& problem, std::int64_t group, int null_keys, Real& largest,
                                       Real& total) {
  largest = null_keys > 0 ? score_of_null_keys<Real>(problem, group) : minus_infinity<Real>;
  total = static_cast<Real>(largest == minus_infinity<Real> ? 0 : null_keys);
}

/// The ranges of the queries of a tile, and the beginning of their sums: largest = −∞, total = 0, output = 0; or, with
/// null keys, largest = their score and total = their number.
template <int query_tile, class Real, class Problem>
KOKKOS_INLINE_FUNCTION void start_sums_of_tile(const Team& team, const Problem& problem, std::int64_t group,
                                               const QueryTile<Real>& tile) {
  const int value_stride = padded<Real>(problem.value_width);
  set_ranges(team, tile, query_tile, [&](std::int64_t t) { return problem.range(t); });
  for_each(team, query_tile, [&](const int q) {
    const int null_keys = q < tile.count ? problem.null_keys(tile.first + q) : 0;
    start_sums(problem, group, null_keys, tile.largest[q], tile.total[q]);
  });
  for_each(team, query_tile * value_stride, [&](const int i) { tile.output[i] = 0; });
}

/// Query q of a tile, or null where there is none. That of the neighbour is prefetched.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION auto query_row(const Problem& problem, std::int64_t group, const QueryTile<Real>& tile, int q)
    -> decltype(problem.query(group, tile.first)) {
  const std::int64_t t = tile.first + q;
  if (q >= tile.count || !problem.has_query(group, t)) return nullptr;
  const auto query = problem.query(group, t);
  if (problem.neighbours > 1) prefetch(query + problem.key_width, problem.key_width);
  return query;
}

/// Loads the queries of a tile and starts their sums.
template <int query_tile, class Real, class Problem>
KOKKOS_INLINE_FUNCTION void start_queries(const Team& team, const Problem& problem, std::int64_t group,
                                          const QueryTile<Real>& tile) {
  const auto row = [&](int q) { return query_row(problem, group, tile, q); };
  transpose_rows(team, query_tile, problem.key_width, static_cast<Real>(problem.scale * log2_e), row, tile.queries,
                 query_tile);
  start_sums_of_tile<query_tile>(team, problem, group, tile);
}

/// scores[s, q] = −∞ for the queries that do not see key s of a tile, which is number `key` in their ranges; key < 0:
/// for all of them.
template <class Real>
inline void mask_scores(const ColumnVector<Real>& queries, std::int32_t key, Real* row) {
  for (int i = 0; i < queries.width; ++i) row[i] = queries.takes(i, key) ? row[i] : minus_infinity<Real>;
}

/// max(largest, max_s scores[s, q]) over the keys that q sees; the scores of others become −∞. scores: of key 0 and
/// these queries.
template <class Real, class Exists>
inline Vector<Real> new_maxima(const ColumnVector<Real>& queries, const RowsOfTile& keys, const Exists& exists,
                               Vector<Real> largest, Real* scores, int stride) {
  for (int s = queries.taken.begin; s < queries.taken.end; ++s) {
    Real* row = scores + s * stride;
    if (!queries.all_take(s) || !exists(s)) mask_scores(queries, exists(s) ? keys.offset + s : -1, row);
    const auto score = load<Vector<Real>>(row);
    largest = score > largest ? score : largest;
  }
  return largest;
}

/// weights[s, q] = 2^(scores[s, q] − shift[q]), in the scores' place; total[q] + Σ_s weights[s, q]
template <class Real>
inline Vector<Real> weights_and_sums(const ColumnVector<Real>& queries, Vector<Real> shift, Vector<Real> total,
                                     Real* scores, int stride) {
  for (int s = queries.taken.begin; s < queries.taken.end; ++s) {
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
inline void form_weights(const SerialTeam&, const RowsOfTile& keys, const Exists& exists,
                         const QueryTile<Real>& queries, const SoftmaxTile<Real, division>& tile) {
  constexpr int stride = columns_of<division>;
  const Vector<Real> nothing = Vector<Real>{} + minus_infinity<Real>;
  for (int q = 0; q < queries.count; q += lanes<Real>) {
    const ColumnVector<Real> some(queries, q, keys);
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
KOKKOS_INLINE_FUNCTION void form_weights(const TeamMember& team, const RowsOfTile& keys, const Exists& exists,
                                         const QueryTile<Real>& queries, const SoftmaxTile<Real, division>& tile) {
  constexpr int query_tile = columns_of<division>;
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
inline void rescale_output(const SerialTeam& team, int value_stride, const QueryTile<Real>& queries,
                           const SoftmaxTile<Real, division>& tile) {
  for (int q = 0; q < queries.count; ++q) {
    const Real factor = tile.rescale[q];
    Real* row = queries.output + q * value_stride;
    if (factor != Real(1)) for_each(team, value_stride, [&](const int i) { row[i] *= factor; });
  }
}

template <class Real, int division>
KOKKOS_INLINE_FUNCTION void rescale_output(const TeamMember& team, int value_stride, const QueryTile<Real>& queries,
                                           const SoftmaxTile<Real, division>& tile) {
  for_each(team, queries.count * value_stride,
           [&](const int i) { queries.output[i] *= tile.rescale[i / value_stride]; });
}

/// Whether queries, asked for in their order, see any key that exists.
template <class Problem>
class SeesSome {
 public:
  KOKKOS_INLINE_FUNCTION SeesSome(const Problem& problem, std::int64_t group, std::int64_t origin)
      : m_problem(problem), m_group(group), m_next(origin) {}

  KOKKOS_INLINE_FUNCTION bool operator()(std::int64_t t) {
    const KeyRange range = m_problem.range(t);
    if (m_next < range.begin) m_next = range.begin;
    while (m_next < range.end && !m_problem.has_key(m_group, m_next)) ++m_next;
    return m_next < range.end;
  }

 private:
  const Problem& m_problem;
  std::int64_t m_group, m_next;  // no key before this one exists that the next query sees
};

/// Writes output / total; 0 where there was nothing to see. NaN, of scores that overflowed, is shown: also where all
/// that a query sees has the score −∞, so that its weights have no sum.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void write_output(const Team& team, const Problem& problem, std::int64_t group,
                                         const QueryTile<Real>& tile) {
  const int width = problem.value_width, stride = padded<Real>(width);
  SeesSome<Problem> sees_some(problem, group, tile.origin);
  for_each_in_rows(team, tile.count, width, [&](const int q) {
    const std::int64_t t = tile.first + q;
    const bool some = problem.has_query(group, t) && (tile.total[q] != 0 || sees_some(t));
    const Real factor = Real(1) / tile.total[q];
    const Real* row = tile.output + q * stride;
    Real* target = problem.output(group, t);
    return [=](const int i) { target[i] = some ? row[i] * factor : Real(0); };
  });
}

/// log_sum = largest + log₂ total; −∞ where there was nothing to see, NaN where the weights have no sum.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void write_log_sums(const Team& team, const Problem& problem, std::int64_t group,
                                           const QueryTile<Real>& tile) {
  SeesSome<Problem> sees_some(problem, group, tile.origin);
  for_each(team, tile.count, [&](const int q) {
    const std::int64_t t = tile.first + q;
    const bool some = problem.has_query(group, t) && (tile.total[q] != 0 || sees_some(t));
    const Real of_sums = tile.total[q] != 0 ? tile.largest[q] + std::log2(tile.total[q]) : not_a_number<Real>;
    problem.log_sum(group, t) = some ? of_sums : minus_infinity<Real>;
  });
}

/// output / total, and the log-sums, if they are wanted.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION void write_results(const Team& team, const Problem& problem, std::int64_t group,
                                          const QueryTile<Real>& tile) {
  write_output(team, problem, group, tile);
  if constexpr (keeps_log_sums<Problem>) write_log_sums(team, problem, group, tile);
}

/// What one tile of queries sees of one tile of keys.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void attend_tile(const Team& team, const Problem& problem, std::int64_t group,
                                        std::int64_t first_key, const QueryTile<Real>& queries,
                                        const SoftmaxTile<Real, division>& tile) {
  constexpr int query_tile = columns_of<division>, key_tile = rows_of<division>;
  const auto seen = rows_taken(queries, [&](std::int64_t t) { return problem.range(t); });
  const RowsOfTile keys(first_key, key_tile, seen, queries, query_tile);
  if (keys.empty()) return;
  // scores[s, q] = key_s · query_q
  form_pair_products<query_tile, key_tile>(team, keys, queries, problem.key_width, tile.keys, queries.queries,
                                           tile.scores);
  form_weights(
      team, keys, [&](int s) { return problem.has_key(group, first_key + s); }, queries, tile);
  rescale_output(team, padded<Real>(problem.value_width), queries, tile);
  // output[q, :] += Σ_s weights[s, q] values[s, :]
  add_rows<query_tile>(team, keys, queries, problem.value_width, tile.scores, tile.values, queries.output);
}

/// The order of a team's work on the queries [first, last), in tiles of them: start(tile) for each; for each tile of
/// keys in turn load(first key, begin, end, last), of which its keys [begin, end) and those before `last` are seen, and
/// attend(first key, tile) for each; write(tile) for each.
template <int query_tile, int key_tile, class Problem, class Start, class Load, class Attend, class Write>
KOKKOS_INLINE_FUNCTION void pass_keys_by_queries(const Problem& problem, std::int64_t first, std::int64_t last,
                                                 const Start& start, const Load& load, const Attend& attend,
                                                 const Write& write) {
  const int tiles = static_cast<int>((last - first + query_tile - 1) / query_tile);
  for (int i = 0; i < tiles; ++i) start(i);
  const KeyRange seen{problem.range(first).begin, problem.range(last - 1).end};
  for (std::int64_t keys = seen.begin / key_tile * key_tile; keys < seen.end; keys += key_tile) {
    const int begin = seen.begin > keys ? static_cast<int>(seen.begin - keys) : 0;
    const int end = seen.end - keys < key_tile ? static_cast<int>(seen.end - keys) : key_tile;
    load(keys, begin, end, seen.end);
    for (int i = 0; i < tiles; ++i) attend(keys, i);
  }
  for (int i = 0; i < tiles; ++i) write(i);
}

/// All of the queries [first, last) of one group, no more than the tiles hold.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void softmax_tile(const Team& team, const Problem& problem, std::int64_t group,
                                         std::int64_t first, std::int64_t last,
                                         const SoftmaxTile<Real, division>& tile) {
  constexpr int query_tile = columns_of<division>, key_tile = rows_of<division>;
  const auto queries = [&](int index) { return tile.query_tile(problem, first, last, index); };
  pass_keys_by_queries<query_tile, key_tile>(
      problem, first, last,
      // largest = −∞, total = 0, output = 0
      [&](int index) { start_queries<query_tile>(team, problem, group, queries(index)); },
      [&](std::int64_t keys, int begin, int end, std::int64_t last_key) {
        load_rows_of_tile(team, KeyRows(problem, group), keys, key_tile, begin, end, last_key, tile.keys, tile.values);
      },
      // output = Σ_s 2^(score_s − largest) value_s, total = Σ_s 2^(score_s − largest), over the keys so far
      [&](std::int64_t keys, int index) { attend_tile(team, problem, group, keys, queries(index), tile); },
      // output / total
      [&](int index) { write_results(team, problem, group, queries(index)); });
}

}  // namespace detail

/// Large teams, since they fetch keys less often; but each thread should have some teams.
template <class Real, int division, class Problem>
ColumnTeams query_teams(const Execution& execution, const Problem& problem) {
  constexpr int query_tile = detail::columns_of<division>;
  const std::int64_t most_tiles = SoftmaxTile<Real, division>::query_tiles_for(problem.key_width, problem.value_width);
  const std::int64_t tiles = problem.groups * ((problem.last - problem.first) / query_tile + 1);
  const std::int64_t tiles_of_team = tiles / (tuning::teams_per_thread * concurrent_teams(execution));
  const std::int64_t queries = query_tile * std::clamp<std::int64_t>(tiles_of_team, 1, most_tiles);
  const std::int64_t size = std::max<std::int64_t>(1, queries / problem.unit) * problem.unit;
  return {size, problem.groups, problem.neighbours, problem.first, problem.last};
}

/// body(team, problem, work, tile) for each team of queries: work.group, and its queries [work.first, work.last).
template <class Real, int division, class Problem, class Body>
void for_query_teams(const Execution& execution, const std::string& label, const Problem& problem, const Body& body) {
  using Tile = SoftmaxTile<Real, division>;
  const std::int64_t bytes = Tile::bytes(problem.key_width, problem.value_width);
  const ColumnTeams teams = query_teams<Real, division>(execution, problem);
  const std::int64_t together =
      taken_together(execution, teams.count(), problem.neighbours, tuning::softmax_groups_per_thread);
  Kokkos::parallel_for(
      label, team_policy(execution, teams.count(), bytes, together), KOKKOS_LAMBDA(const TeamMember& member) {
        Scratch scratch(member, bytes);
        const Tile tile(scratch, problem.key_width, problem.value_width);
        body(as_team(member), problem, teams.work(member.league_rank()), tile);
      });
}

namespace detail {

/// softmax_tile() of what a team is given.
struct AttendInTiles {
  template <class Problem, class Tile>
  KOKKOS_INLINE_FUNCTION void operator()(const Team& team, const Problem& problem, const ColumnTeams::Work& work,
                                         const Tile& tile) const {
    softmax_tile(team, problem, work.group, work.first, work.last, tile);
  }
};

}  // namespace detail

/// Computes every output row of the problem.
template <class Real, class Problem>
void softmax_tiles(const Execution& execution, const std::string& label, const Problem& problem) {
  if (problem.groups == 0 || problem.first >= problem.last) return;
  with_softmax_tile<Real>(problem.key_width, problem.value_width, [&](auto division) {
    for_query_teams<Real, division>(execution, label, problem, detail::AttendInTiles());
  });
}

}  // namespace bsbr::kernels
