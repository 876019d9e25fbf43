// Gradients of softmax attention in tiles (Dao 2023, FlashAttention-2), from two numbers that are kept of each query:
// the logarithm of the sum of its weights, which softmax_tiles leaves, and δ_t = do_t · output_t.
//
//     score_ts = query_t · key_s · scale · log₂ e       w_ts = 2^(score_ts − log_sum_t)
//     dw_ts = do_t · value_s                            ds_ts = w_ts (dw_ts − δ_t)
//     dq_t = scale Σ_s ds_ts key_s                      dk_s = scale Σ_t ds_ts query_t        dv_s = Σ_t w_ts do_t
//
// Two passes, each of which forms w and ds anew: one by queries, past which the keys go by, and one by keys, past which
// the queries go. Each row of a gradient is written by one team that adds up all of it, tile by tile of keys, or of
// queries, which are cut at global multiples of tuning::key_tile. A score is the same chain of multiply-adds as in
// softmax_tiles in both passes: a query that sees one key gives it a weight of exactly 1.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

#include "kernels/softmax_parts.hpp"

namespace bsbr::kernels {

// A Problem tells query_gradients and key_gradients what to compute; it is copied to the device.
//   data members: scale, key_width, value_width, groups, neighbours as for softmax_tiles, and
//     std::int64_t first, last          the queries, or the keys, of each group whose gradients are wanted
//   KOKKOS_FUNCTIONs, const
//     Range range(i)                    the keys that query i sees; for key_gradients the queries that see key i.
//                                       Neither end decreases
//     query, key, value, has_key        as for softmax_tiles
//     const Real* output_gradient(group, t)
//     Real log_sum(group, t), delta(group, t)     where delta is a Real&, query_gradients forms and writes it: of
//                                                 attention whose output is not at hand by itself
//     Real* query_gradient(group, t)    row to write, in query_gradients; 0 where the query sees nothing
//     Real* key_gradient(group, s), value_gradient(group, s)   in key_gradients; 0 where there is no key

/// Scratch of one team: a tile of columns, whose gradients are formed, and a tile of rows that goes by. of_keys: the
/// columns are keys and the rows queries, not the other way round.
template <class Real, int division, bool of_keys>
struct GradientTile {
  static constexpr int column_count = detail::columns_of<division>, row_count = detail::rows_of<division>;
  static constexpr int query_count = of_keys ? row_count : column_count;

  TileColumns columns;
  Real* score_columns;  // [key_width, column_tile]: queries, scaled, or keys; transposed
  Real* value_columns;  // [value_width, column_tile]: gradients of outputs, or values; transposed
  Real* score_rows;     // [row_tile, padded key_width]: keys, or queries, scaled
  Real* value_rows;     // [row_tile, padded value_width]: values, or gradients of outputs
  Real* log_sums;       // [query_count], of the queries
  Real* deltas;         // [query_count]
  Real* weights;        // [row_tile, column_tile]: scores, then weights
  Real* gradients;      // [row_tile, column_tile]: gradients of the weights, then of the scores
  Real* score_sums;     // [column_tile, padded key_width]: Σ gradients · score_rows
  Real* value_sums;     // [column_tile, padded value_width]: Σ weights · value_rows, where the columns are keys

  KOKKOS_INLINE_FUNCTION static std::int64_t value_sum_count(int value_width) {
    return of_keys ? std::int64_t{column_count} * padded<Real>(value_width) : 0;
  }

  KOKKOS_INLINE_FUNCTION static std::int64_t bytes(int key_width, int value_width) {
    return scratch_bytes<Real>(std::int64_t{column_count} * key_width) +
           scratch_bytes<Real>(std::int64_t{column_count} * value_width) +
           scratch_bytes<Real>(std::int64_t{row_count} * padded<Real>(key_width)) +
           scratch_bytes<Real>(std::int64_t{row_count} * padded<Real>(value_width)) +
           2 * scratch_bytes<Real>(query_count) + 2 * scratch_bytes<Real>(row_count * column_count) +
           scratch_bytes<Real>(std::int64_t{column_count} * padded<Real>(key_width)) +
           scratch_bytes<Real>(value_sum_count(value_width)) + 2 * scratch_bytes<std::int32_t>(column_count);
  }

  KOKKOS_INLINE_FUNCTION GradientTile(Scratch& scratch, int key_width, int value_width)
      : columns(),
        score_columns(scratch.take<Real>(std::int64_t{column_count} * key_width)),
        value_columns(scratch.take<Real>(std::int64_t{column_count} * value_width)),
        score_rows(scratch.take<Real>(std::int64_t{row_count} * padded<Real>(key_width))),
        value_rows(scratch.take<Real>(std::int64_t{row_count} * padded<Real>(value_width))),
        log_sums(scratch.take<Real>(query_count)),
        deltas(scratch.take<Real>(query_count)),
        weights(scratch.take<Real>(row_count * column_count)),
        gradients(scratch.take<Real>(row_count * column_count)),
        score_sums(scratch.take<Real>(std::int64_t{column_count} * padded<Real>(key_width))),
        value_sums(scratch.take<Real>(value_sum_count(value_width))) {
    columns.begin = scratch.take<std::int32_t>(column_count);
    columns.end = scratch.take<std::int32_t>(column_count);
  }
};

/// f(std::integral_constant<int, division>) with the division that tiles of these widths have.
template <class Real, bool of_keys, class Function>
auto with_gradient_tile(int key_width, int value_width, Function&& f) {
  return with_division(
      [&](auto division) { return GradientTile<Real, division, of_keys>::bytes(key_width, value_width); }, f);
}

/// Scratch of a team of either pass, in bytes, at most.
template <class Real>
std::int64_t softmax_gradient_scratch_bytes(int key_width, int value_width) {
  const std::int64_t of_queries = with_gradient_tile<Real, false>(key_width, value_width, [&](auto division) {
    return GradientTile<Real, division, false>::bytes(key_width, value_width);
  });
  const std::int64_t of_keys = with_gradient_tile<Real, true>(key_width, value_width, [&](auto division) {
    return GradientTile<Real, division, true>::bytes(key_width, value_width);
  });
  return std::max(of_queries, of_keys);
}

namespace detail {

/// The queries of a group and the gradients of their outputs, as load_rows_of_tile takes them.
template <class Problem>
struct QueryRows {
  const Problem& problem;
  std::int64_t group, neighbours;
  int first_width, second_width;

  KOKKOS_INLINE_FUNCTION QueryRows(const Problem& of_problem, std::int64_t of_group)
      : problem(of_problem),
        group(of_group),
        neighbours(of_problem.neighbours),
        first_width(of_problem.key_width),
        second_width(of_problem.value_width) {}

  KOKKOS_INLINE_FUNCTION static bool exists(std::int64_t) { return true; }
  KOKKOS_INLINE_FUNCTION auto first(std::int64_t t) const { return problem.query(group, t); }
  KOKKOS_INLINE_FUNCTION auto second(std::int64_t t) const { return problem.output_gradient(group, t); }
};

/// What queries are multiplied by, as in softmax_tiles.
template <class Real, class Problem>
KOKKOS_INLINE_FUNCTION Real query_factor(const Problem& problem) {
  return static_cast<Real>(problem.scale * log2_e);
}

/// The problem's δ are still to be formed.
template <class Problem>
inline constexpr bool forms_deltas = std::is_reference_v<decltype(std::declval<const Problem&>().delta(0, 0))>;

/// The kept numbers of `count` queries from t = first on, whose places in the tile begin at `place`; δ = 0 where it is
/// still to be formed.
template <class Real, int division, bool of_keys, class Problem>
KOKKOS_INLINE_FUNCTION void load_kept(const Team& team, const Problem& problem, std::int64_t group, std::int64_t first,
                                      int place, int count, const GradientTile<Real, division, of_keys>& tile) {
  for_each(team, count, [&](const int i) {
    tile.log_sums[place + i] = problem.log_sum(group, first + i);
    tile.deltas[place + i] = forms_deltas<Problem> && !of_keys ? Real(0) : problem.delta(group, first + i);
  });
}

/// Columns and their ranges; sums of 0. source: of the columns, which are multiplied by `factor`.
template <class Real, int division, bool of_keys, class Problem, class Source>
KOKKOS_INLINE_FUNCTION void start_columns(const Team& team, const Problem& problem, const Source& source, Real factor,
                                          std::int64_t first, std::int64_t last,
                                          GradientTile<Real, division, of_keys>& tile) {
  constexpr int column_tile = columns_of<division>;
  TileColumns& columns = tile.columns;
  columns.first = first;
  columns.count = static_cast<int>(last - first);
  columns.origin = problem.range(first).begin;
  const auto first_row = [&](int c) -> const Real* {
    return c < columns.count && source.exists(first + c) ? source.first(first + c) : nullptr;
  };
  const auto second_row = [&](int c) -> const Real* {
    return c < columns.count && source.exists(first + c) ? source.second(first + c) : nullptr;
  };
  transpose_rows(team, column_tile, problem.key_width, factor, first_row, tile.score_columns, column_tile);
  transpose_rows(team, column_tile, problem.value_width, Real(1), second_row, tile.value_columns, column_tile);
  set_ranges(team, columns, column_tile, [&](std::int64_t i) { return problem.range(i); });
  for_each(team, column_tile * padded<Real>(problem.key_width), [&](const int i) { tile.score_sums[i] = 0; });
  if constexpr (of_keys)
    for_each(team, column_tile * padded<Real>(problem.value_width), [&](const int i) { tile.value_sums[i] = 0; });
}

/// Turns scores into weights and gradients of weights into gradients of scores, for the rows that columns take; what it
/// leaves where a column does not take a row is of no meaning, and read by nobody.
///
///     weights[r, c] = 2^(weights[r, c] − log_sum),  gradients[r, c] = weights[r, c] (gradients[r, c] − δ)
///
/// of the query, which is c, or r where columns are keys; weights are stored there only. gradients is 0 where a row
/// does not exist.
template <class Real, int division, bool of_keys, class Exists>
inline void form_score_gradients(const SerialTeam&, const RowsOfTile& rows, const Exists& exists,
                                 const GradientTile<Real, division, of_keys>& tile) {
  constexpr int stride = columns_of<division>;
  for (int c = 0; c < tile.columns.count; c += lanes<Real>) {
    const ColumnVector<Real> some(tile.columns, c, rows);
    const auto of_query = [&](const Real* kept, int r) {
      if constexpr (of_keys) {
        return Vector<Real>{} + kept[r];
      } else {
        return load<Vector<Real>>(kept + c);
      }
    };
    for (int r = some.taken.begin; r < some.taken.end; ++r) {
      Real *weight = tile.weights + r * stride + c, *gradient = tile.gradients + r * stride + c;
      const auto w = exp2_of_vector<Real>(load<Vector<Real>>(weight) - of_query(tile.log_sums, r));
      const auto ds = w * (load<Vector<Real>>(gradient) - of_query(tile.deltas, r));
      if constexpr (of_keys) store(weight, w);
      store(gradient, exists(r) ? ds : Vector<Real>{});
    }
  }
}

template <class Real, int division, bool of_keys, class Exists>
KOKKOS_INLINE_FUNCTION void form_score_gradients(const TeamMember& team, const RowsOfTile& rows, const Exists& exists,
                                                 const GradientTile<Real, division, of_keys>& tile) {
  constexpr int stride = columns_of<division>;
  for_each(team, (rows.end - rows.begin) * stride, [&](const int i) {
    const int r = rows.begin + i / stride, c = i % stride, query = of_keys ? r : c;
    if (c >= tile.columns.count) return;
    Real &weight = tile.weights[r * stride + c], &gradient = tile.gradients[r * stride + c];
    weight = exp2_nonpositive(weight - tile.log_sums[query]);
    gradient = exists(r) ? weight * (gradient - tile.deltas[query]) : Real(0);
  });
}

/// deltas[c] += Σ_r 2^(weights[r, c] − log_sum) gradients[r, c] over the rows that column c, a query, takes and that
/// exist.
template <class Real, int division, class Exists>
inline void add_to_deltas(const SerialTeam&, const RowsOfTile& rows, const Exists& exists,
                          const GradientTile<Real, division, false>& tile) {
  constexpr int stride = columns_of<division>;
  for (int c = 0; c < tile.columns.count; c += lanes<Real>) {
    const ColumnVector<Real> some(tile.columns, c, rows);
    const auto log_sum = load<Vector<Real>>(tile.log_sums + c);
    auto delta = load<Vector<Real>>(tile.deltas + c);
    for (int r = some.taken.begin; r < some.taken.end; ++r) {
      if (!exists(r)) continue;
      const auto weight = exp2_of_vector<Real>(load<Vector<Real>>(tile.weights + r * stride + c) - log_sum);
      const Vector<Real> sum = delta + weight * load<Vector<Real>>(tile.gradients + r * stride + c);
      if (some.all_take(r)) {
        delta = sum;
      } else {
        for (int i = 0; i < lanes<Real>; ++i) delta[i] = some.takes(i, rows.offset + r) ? sum[i] : delta[i];
      }
    }
    store(tile.deltas + c, delta);
  }
}

template <class Real, int division, class Exists>
KOKKOS_INLINE_FUNCTION void add_to_deltas(const TeamMember& team, const RowsOfTile& rows, const Exists& exists,
                                          const GradientTile<Real, division, false>& tile) {
  constexpr int stride = columns_of<division>;
  for_each(team, tile.columns.count, [&](const int c) {
    const DepthRange taken = rows.taken_by(tile.columns, c);
    Real delta = tile.deltas[c];
    for (int r = taken.begin; r < taken.end; ++r) {
      if (!exists(r)) continue;
      delta += exp2_nonpositive(tile.weights[r * stride + c] - tile.log_sums[c]) * tile.gradients[r * stride + c];
    }
    tile.deltas[c] = delta;
  });
}

/// Scores, and the gradients of their weights, of the rows of a tile that some column takes: products of what the
/// columns are with what source gives for rows. Rows of the former are multiplied by `factor`.
template <class Real, int division, bool of_keys, class Source>
KOKKOS_INLINE_FUNCTION void form_pairs(const Team& team, const Source& source, Real factor, std::int64_t first,
                                       const RowsOfTile& rows, std::int64_t last,
                                       const GradientTile<Real, division, of_keys>& tile) {
  constexpr int column_tile = columns_of<division>, row_tile = rows_of<division>;
  load_rows_of_tile(team, source, first, row_tile, rows.begin, rows.end, last, tile.score_rows, tile.value_rows);
  if constexpr (of_keys) {
    const int stride = padded<Real>(source.first_width);
    Real* scaled = tile.score_rows + rows.begin * stride;
    for_each(team, (rows.end - rows.begin) * stride, [&](const int i) { scaled[i] *= factor; });
  }
  form_pair_products<column_tile, row_tile>(team, rows, tile.columns, source.first_width, tile.score_rows,
                                            tile.score_columns, tile.weights);
  form_pair_products<column_tile, row_tile>(team, rows, tile.columns, source.second_width, tile.value_rows,
                                            tile.value_columns, tile.gradients);
}

/// f(first row, rows) for the tiles of rows that some column of a tile takes, one after the other.
template <int row_tile, int column_tile, class Function>
KOKKOS_INLINE_FUNCTION void for_each_tile_of_rows(const RowsTaken<std::int64_t>& taken, const TileColumns& columns,
                                                  const Function& function) {
  for (std::int64_t first = taken.begin / row_tile * row_tile; first < taken.end; first += row_tile)
    function(first, RowsOfTile(first, row_tile, taken, columns, column_tile));
}

/// dq of the queries [first, last) of one group, no more than a tile holds.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void gradients_of_tile(const Team& team, const Problem& problem, std::int64_t group,
                                              std::int64_t first, std::int64_t last,
                                              GradientTile<Real, division, false>& tile) {
  constexpr int column_tile = columns_of<division>, row_tile = rows_of<division>;
  const int width = problem.key_width, stride = padded<Real>(width);
  const KeyRows<Problem> keys(problem, group);
  start_columns(team, problem, QueryRows<Problem>(problem, group), query_factor<Real>(problem), first, last, tile);
  load_kept(team, problem, group, first, 0, tile.columns.count, tile);

  const auto seen = rows_taken(tile.columns, [&](std::int64_t t) { return problem.range(t); });
  const auto exists_from = [&](std::int64_t first_key) {
    return [&problem, group, first_key](int s) { return problem.has_key(group, first_key + s); };
  };
  bool formed = false;  // the pairs of the only tile of keys

  // δ_t = Σ_s w_ts dw_ts
  if constexpr (forms_deltas<Problem>) {
    for_each_tile_of_rows<row_tile, column_tile>(seen, tile.columns,
                                                 [&](std::int64_t first_key, const RowsOfTile& rows) {
                                                   form_pairs(team, keys, Real(1), first_key, rows, seen.end, tile);
                                                   add_to_deltas(team, rows, exists_from(first_key), tile);
                                                   formed = first_key <= seen.begin && seen.end <= first_key + row_tile;
                                                 });
    for_each(team, tile.columns.count, [&](const int q) { problem.delta(group, first + q) = tile.deltas[q]; });
  }

  // Σ_s ds_ts key_s
  for_each_tile_of_rows<row_tile, column_tile>(seen, tile.columns, [&](std::int64_t first_key, const RowsOfTile& rows) {
    if (!formed) form_pairs(team, keys, Real(1), first_key, rows, seen.end, tile);
    form_score_gradients(team, rows, exists_from(first_key), tile);
    add_rows<column_tile>(team, rows, tile.columns, width, tile.gradients, tile.score_rows, tile.score_sums);
  });

  const Real scale = problem.scale;
  for_each_in_rows(team, tile.columns.count, width, [&](const int q) {
    const Real* row = tile.score_sums + q * stride;
    Real* target = problem.query_gradient(group, first + q);
    return [=](const int i) { target[i] = row[i] * scale; };
  });
}

/// dk and dv of the keys [first, last) of one group, no more than a tile holds.
template <class Real, int division, class Problem>
KOKKOS_INLINE_FUNCTION void gradients_of_tile(const Team& team, const Problem& problem, std::int64_t group,
                                              std::int64_t first, std::int64_t last,
                                              GradientTile<Real, division, true>& tile) {
  constexpr int column_tile = columns_of<division>, row_tile = rows_of<division>;
  const int key_width = problem.key_width, value_width = problem.value_width;
  const QueryRows<Problem> queries(problem, group);
  start_columns(team, problem, KeyRows<Problem>(problem, group), Real(1), first, last, tile);

  // Σ_t ds_ts query_t · scale · log₂ e,  Σ_t w_ts do_t
  const auto seen_by = rows_taken(tile.columns, [&](std::int64_t s) { return problem.range(s); });
  for_each_tile_of_rows<row_tile, column_tile>(
      seen_by, tile.columns, [&](std::int64_t first_query, const RowsOfTile& rows) {
        load_kept(team, problem, group, first_query + rows.begin, rows.begin, rows.end - rows.begin, tile);
        form_pairs(team, queries, query_factor<Real>(problem), first_query, rows, seen_by.end, tile);
        form_score_gradients(
            team, rows, [](int) { return true; }, tile);
        add_rows<column_tile>(team, rows, tile.columns, key_width, tile.gradients, tile.score_rows, tile.score_sums);
        add_rows<column_tile>(team, rows, tile.columns, value_width, tile.weights, tile.value_rows, tile.value_sums);
      });

  const auto write = [&](int width, Real factor, const Real* sums, const auto& target_of) {
    for_each_in_rows(team, tile.columns.count, width, [&](const int k) {
      const bool exists = problem.has_key(group, first + k);
      const Real* row = sums + k * padded<Real>(width);
      Real* target = target_of(first + k);
      return [=](const int i) { target[i] = exists ? row[i] * factor : Real(0); };
    });
  };
  write(key_width, static_cast<Real>(1 / log2_e), tile.score_sums,
        [&](std::int64_t s) { return problem.key_gradient(group, s); });
  write(value_width, Real(1), tile.value_sums, [&](std::int64_t s) { return problem.value_gradient(group, s); });
}

/// Gradients of all columns of a problem; a team for each tile of them, cut at global multiples of the tile.
template <class Real, int division, bool of_keys, class Problem>
void softmax_gradients_of(const Execution& execution, const std::string& label, const Problem& problem) {
  using Tile = GradientTile<Real, division, of_keys>;
  const std::int64_t bytes = Tile::bytes(problem.key_width, problem.value_width);
  const ColumnTeams teams(Tile::column_count, problem.groups, problem.neighbours, problem.first, problem.last);
  const std::int64_t together =
      taken_together(execution, teams.count(), problem.neighbours, tuning::softmax_groups_per_thread);
  Kokkos::parallel_for(
      label, team_policy(execution, teams.count(), bytes, together), KOKKOS_LAMBDA(const TeamMember& member) {
        const ColumnTeams::Work work = teams.work(member.league_rank());
        Scratch scratch(member, bytes);
        Tile tile(scratch, problem.key_width, problem.value_width);
        gradients_of_tile(as_team(member), problem, work.group, work.first, work.last, tile);
      });
}

template <class Real, bool of_keys, class Problem>
void softmax_gradients(const Execution& execution, const std::string& label, const Problem& problem) {
  if (problem.groups == 0 || problem.first >= problem.last) return;
  with_gradient_tile<Real, of_keys>(problem.key_width, problem.value_width, [&](auto division) {
    softmax_gradients_of<Real, division, of_keys>(execution, label, problem);
  });
}

}  // namespace detail

/// Computes every row dq of the problem.
template <class Real, class Problem>
void query_gradients(const Execution& execution, const std::string& label, const Problem& problem) {
  detail::softmax_gradients<Real, false>(execution, label, problem);
}

/// Computes every row dk and dv of the problem.
template <class Real, class Problem>
void key_gradients(const Execution& execution, const std::string& label, const Problem& problem) {
  detail::softmax_gradients<Real, true>(execution, label, problem);
}

}  // namespace bsbr::kernels
