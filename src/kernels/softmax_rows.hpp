// Softmax attention of a few queries of each group, one after the other: what decoding a token asks for. Of a host;
// the same bits as softmax_tiles.
//
//     output_t = Σ_s softmax_s( query_t · key_s · scale  over s in [lo(t), hi(t)) that exist ) value_s
//
// A tile of queries would be nearly empty, and filling it from copies of keys and values would take longer than
// reading them. Here they are read where they lie, once, those of a tile of keys by all groups of a team before the
// next tile: rows of several groups lie side by side, or are the same, so that memory is read from its beginning to its
// end, and its rate is the limit.
//
// Every sum has the order of softmax_tiles: a score along its elements; maxima, weights and their total along the keys
// of a tile; the values of a tile in a chain of their own, which is then added.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>

#include "kernels/softmax_tiles.hpp"

namespace bsbr::kernels {

namespace detail {

/// The keys of a tile that exist and that a query sees, and their values. Element: what they are stored as.
template <class Element>
struct SeenKeys {
  static constexpr int most = HostSizes::key_tile;
  const Element *keys[most], *values[most];
  int count = 0;
  bool in_range;  // some key of the tile, whether it exists or not

  /// Those of the keys [first, first + most) in `range`. What follows after a tile is asked for.
  template <class Problem>
  SeenKeys(const Problem& problem, std::int64_t group, std::int64_t first, KeyRange range) {
    const std::int64_t begin = std::max(range.begin, first), end = std::min(range.end, first + most);
    in_range = begin < end;
    for (std::int64_t s = begin; s < end; ++s) {
      if (s + most < range.end) {
        prefetch(problem.key(group, s + most), problem.key_width);
        prefetch(problem.value(group, s + most), problem.value_width);
      }
      if (!problem.has_key(group, s)) continue;
      keys[count] = elements_of<Element>(problem.key(group, s));
      values[count++] = elements_of<Element>(problem.value(group, s));
    }
  }
};

/// scores[i] = key_i · query for `vectors` vectors of keys from `first` on; anything beyond the last key.
template <int vectors, class Real, class Element>
inline void score_keys(const SeenKeys<Element>& seen, int first, const Real* query, int width, Real* scores) {
  constexpr int n = lanes<Real>, count = vectors * n;
  const Element* keys[count];
  for (int i = 0; i < count; ++i) keys[i] = seen.keys[std::min(first + i, seen.count - 1)];
  Vector<Real> sums[vectors] = {};
  int k = 0;
  for (; k + n <= width; k += n) {
    for (int v = 0; v < vectors; ++v) {
      Vector<Real> block[n];  // [key, element], then [element, key]
      for (int i = 0; i < n; ++i) block[i] = load<Vector<Real>>(keys[v * n + i] + k);
      transpose_vectors<n / 2, Real>(block);
      for (int i = 0; i < n; ++i) sums[v] = sums[v] + query[k + i] * block[i];
    }
  }
  for (; k < width; ++k) {
    for (int v = 0; v < vectors; ++v) {
      Vector<Real> column;
      for (int i = 0; i < n; ++i) column[i] = keys[v * n + i][k];
      sums[v] = sums[v] + query[k] * column;
    }
  }
  for (int v = 0; v < vectors; ++v) store(scores + first + v * n, sums[v]);
}

/// Scores of `count` keys, in whole vectors → their weights, with the maximum and the total of a query brought up to
/// date; returns what its output is to be multiplied by (form_weights of softmax_tiles).
template <class Real>
inline Real weigh_keys(int count, const QueryTile<Real>& query, Real* scores) {
  constexpr int n = lanes<Real>;
  const Vector<Real> nothing = Vector<Real>{} + minus_infinity<Real>;
  std::fill(scores + count, scores + padded<Real>(count), minus_infinity<Real>);
  const Vector<Real> before = Vector<Real>{} + query.largest[0];
  Vector<Real> tops = before;
  for (int i = 0; i < count; i += n) {
    const auto score = load<Vector<Real>>(scores + i);
    tops = score > tops ? score : tops;
  }
  Real top = tops[0];
  for (int i = 1; i < n; ++i) top = tops[i] > top ? tops[i] : top;
  const Vector<Real> largest = Vector<Real>{} + top;
  const Vector<Real> shift = largest == nothing ? Vector<Real>{} : largest;
  const Vector<Real> difference = before == nothing ? Vector<Real>{} : before - shift;
  for (int i = 0; i < count; i += n) {
    store(scores + i, exp2_of_vector<Real>(load<Vector<Real>>(scores + i) - shift));
  }
  const Real rescale = exp2_of_vector<Real>(difference)[0];
  Real total = query.total[0] * rescale;
  for (int i = 0; i < count; ++i) total += scores[i];
  query.largest[0] = top;
  query.total[0] = total;
  return rescale;
}

/// output[columns] += Σ_i weights[i] value_i[columns] for `vectors` vectors of columns from `column` on. Not inlined,
/// so that no multiplication of the output melts into the addition.
template <int vectors, class Real, class Element>
[[gnu::noinline]] inline void add_values(const SeenKeys<Element>& seen, const Real* weights, int column, Real* output) {
  constexpr int n = lanes<Real>;
  Vector<Real> sums[vectors] = {};
  for (int i = 0; i < seen.count; ++i) {
    const Element* value = seen.values[i] + column;
    for (int v = 0; v < vectors; ++v) sums[v] = sums[v] + weights[i] * load<Vector<Real>>(value + v * n);
  }
  for (int v = 0; v < vectors; ++v) {
    Real* target = output + column + v * n;
    store(target, load<Vector<Real>>(target) + sums[v]);
  }
}

/// The same of the columns [column, width), which are fewer than a vector has lanes: as a vector all the same, since
/// compilers contract no chain of numbers that they sum in vectors.
template <class Real, class Element>
[[gnu::noinline]] inline void add_last_values(const SeenKeys<Element>& seen, const Real* weights, int column, int width,
                                              Real* output) {
  Vector<Real> sum = {};
  for (int i = 0; i < seen.count; ++i) {
    Vector<Real> value = {};
    for (int k = 0; k < width - column; ++k) value[k] = seen.values[i][column + k];
    sum = sum + weights[i] * value;
  }
  store(output + column, load<Vector<Real>>(output + column) + sum);
}

/// What a query sees of one tile of keys, which begins at first_key. Element: what keys and values are stored as.
template <class Element, class Real, class Problem>
inline void attend_row(const Problem& problem, std::int64_t group, std::int64_t first_key,
                       const QueryTile<Real>& query) {
  constexpr int step = HostSizes::scored_vectors, most = HostSizes::value_vectors, n = lanes<Real>;
  const SeenKeys<Element> seen(problem, group, first_key, problem.range(query.first));
  if (!seen.in_range) return;
  Real scores[(SeenKeys<Element>::most + step * n - 1) / (step * n) * step * n];
  for (int i = 0; i < seen.count; i += step * n) score_keys<step>(seen, i, query.queries, problem.key_width, scores);
  const Real rescale = weigh_keys(seen.count, query, scores);
  const int width = problem.value_width;
  if (rescale != Real(1)) {
    for (int i = 0; i < width; ++i) query.output[i] *= rescale;
  }
  int column = 0;
  for (; column + most * n <= width; column += most * n) add_values<most>(seen, scores, column, query.output);
  if (const int vectors = (width - column) / n; vectors > 0) {
    with_constant<most>(vectors, [&](auto count) { add_values<count>(seen, scores, column, query.output); });
    column += vectors * n;
  }
  if (column < width) add_last_values(seen, scores, column, width, query.output);
}

}  // namespace detail

/// Scratch of one team: the queries of some neighbouring groups, each a tile of one query.
template <class Real>
class SoftmaxRows {
 public:
  SoftmaxRows(Scratch& scratch, int key_width, int value_width, std::int64_t count)
      : m_rows(scratch.take<char>(count * row_bytes(key_width, value_width))),
        m_key_width(key_width),
        m_value_width(value_width) {}

  static std::int64_t row_bytes(int key_width, int value_width) {
    return scratch_bytes<Real>(key_width) + scratch_bytes<Real>(padded<Real>(value_width)) + 2 * scratch_bytes<Real>(1);
  }

  static std::int64_t bytes(int key_width, int value_width, std::int64_t count) {
    return scratch_bytes<char>(count * row_bytes(key_width, value_width));
  }

  /// Row `index` of the team's: query t.
  template <class Problem>
  QueryTile<Real> row(const Problem& problem, std::int64_t index, std::int64_t t) const {
    QueryTile<Real> tile{};
    tile.first = t;
    tile.count = 1;
    tile.origin = problem.range(t).begin;
    Scratch scratch(m_rows + index * row_bytes(m_key_width, m_value_width));
    tile.queries = scratch.take<Real>(m_key_width);
    tile.output = scratch.take<Real>(padded<Real>(m_value_width));
    tile.largest = scratch.take<Real>(1);
    tile.total = scratch.take<Real>(1);
    return tile;
  }

 private:
  char* m_rows;
  int m_key_width, m_value_width;
};

namespace detail {

/// Loads a query and starts its sums, as start_queries of softmax_tiles.
template <class Real, class Problem>
inline void start_row(const Problem& problem, std::int64_t group, const QueryTile<Real>& query) {
  const auto scale = static_cast<Real>(problem.scale * log2_e);
  const auto row = problem.query(group, query.first);
  for (int k = 0; k < problem.key_width; ++k) query.queries[k] = scale * row[k];
  start_sums(problem, group, problem.null_keys(query.first), query.largest[0], query.total[0]);
}

/// All queries of the groups [first_group, last_group).
template <class Element, class Real, class Problem>
inline void softmax_rows_of(const SerialTeam& team, const Problem& problem, std::int64_t first_group,
                            std::int64_t last_group, const SoftmaxRows<Real>& rows) {
  const auto for_each_row = [&](const auto& function) {
    std::int64_t index = 0;
    for (std::int64_t group = first_group; group < last_group; ++group) {
      for (std::int64_t t = problem.first; t < problem.last; ++t) function(group, rows.row(problem, index++, t));
    }
  };

  for_each_row([&](std::int64_t group, const QueryTile<Real>& query) {
    std::fill_n(query.output, padded<Real>(problem.value_width), Real(0));
    query.total[0] = 0;
    if (problem.has_query(group, query.first)) start_row(problem, group, query);
  });
  constexpr int key_tile = HostSizes::key_tile;
  const KeyRange seen{problem.range(problem.first).begin, problem.range(problem.last - 1).end};
  for (std::int64_t keys = seen.begin / key_tile * key_tile; keys < seen.end; keys += key_tile) {
    for_each_row([&](std::int64_t group, const QueryTile<Real>& query) {
      if (problem.has_query(group, query.first)) attend_row<Element>(problem, group, keys, query);
    });
  }
  for_each_row([&](std::int64_t group, const QueryTile<Real>& query) { write_results(team, problem, group, query); });
}

}  // namespace detail

/// How the groups are cut into teams: runs, of which each thread gets one, and which have no more scratch than
/// softmax_tiles. All queries of a group are of one team: outputs may be written over keys or values.
struct GroupTeams {
  std::int64_t groups, runs;

  template <class Real, class Problem>
  static GroupTeams of(const Execution& execution, const Problem& problem) {
    const std::int64_t row = SoftmaxRows<Real>::row_bytes(problem.key_width, problem.value_width);
    const std::int64_t room = softmax_scratch_bytes<Real>(problem.key_width, problem.value_width);
    const std::int64_t most = std::max<std::int64_t>(1, (room / row - 1) / (problem.last - problem.first));
    const std::int64_t needed = (problem.groups + most - 1) / most;
    return {problem.groups, std::min(problem.groups, std::max<std::int64_t>(concurrent_teams(execution), needed))};
  }

  /// Groups of the longest run.
  std::int64_t longest() const { return (groups + runs - 1) / runs; }

  /// The first group of a team.
  std::int64_t begin(std::int64_t team) const { return team * groups / runs; }
};

/// softmax_rows() of keys and values that are stored as Element.
template <class Element, class Real, class Problem>
void softmax_rows_stored_as(const Execution& execution, const std::string& label, const Problem& problem) {
  const GroupTeams teams = GroupTeams::of<Real>(execution, problem);
  const std::int64_t rows = teams.longest() * (problem.last - problem.first);
  const std::int64_t bytes = SoftmaxRows<Real>::bytes(problem.key_width, problem.value_width, rows);
  Kokkos::parallel_for(
      label, team_policy(execution, teams.runs, bytes), KOKKOS_LAMBDA(const TeamMember& member) {
        Scratch scratch(member, bytes);
        const SoftmaxRows<Real> of_team(scratch, problem.key_width, problem.value_width, rows);
        const std::int64_t team = member.league_rank();
        detail::softmax_rows_of<Element>(as_team(member), problem, teams.begin(team), teams.begin(team + 1), of_team);
      });
}

/// Computes every output row of the problem; meant for few queries.
template <class Real, class Problem>
void softmax_rows(const Execution& execution, const std::string& label, const Problem& problem) {
  if (problem.groups == 0 || problem.first >= problem.last) return;
  if constexpr (detail::may_be_packed<Real, Problem>) {
    if (problem.keys.packed) return softmax_rows_stored_as<Bfloat16, Real>(execution, label, problem);
  }
  softmax_rows_stored_as<Real, Real>(execution, label, problem);
}

}  // namespace bsbr::kernels
