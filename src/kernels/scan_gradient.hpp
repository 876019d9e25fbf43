// The gradient of a scan (state_scan.hpp) is scans again.
//
// Where u = v, what the results o contribute to a loss is linear in each of four rows, and the gradient of each row is
// what the other three make:
//
//     Σ_t do_t·o_t = Σ_{s ≤ t} γ^(t−s) (q_t·k_s) (v_s·do_t)
//
//     dq_t = Σ_{s ≤ t} γ^(t−s) (do_t·v_s) k_s     a scan with queries do, keys v and values k
//     dk_s = Σ_{t ≥ s} γ^(t−s) (v_s·do_t) q_t     from the last token to the first: queries v, keys do, values q
//     dv_s = Σ_{t ≥ s} γ^(t−s) (k_s·q_t) do_t     from the last token to the first: queries k, keys q, values do
//
// So the columns of each result do not depend on each other, and teams share them out as in a forward; what a result
// sums over columns of a forward's state is a sum over the rows of another state here. A normaliser is one element more
// of do and v.
//
// Where u corrects the state, u_t = β (v_t − k_t S_{t−1}) and S_t = S_{t−1} + k_tᵀ u_t, let dS_t be the gradient of
// S_t. From the last token to the first
//
//     dS_t = dS_t of later tokens + q_tᵀ do_t,   dv_t = β k_t dS_t,   and before token t: dS_t − k_tᵀ dv_t
//
// Of E = −dS that is the same rule without values, dv_t = β (0 − k_t E) and E ← E + k_tᵀ dv_t, with E ← E − q_tᵀ do_t
// before it: AdjointTokens. With u and dv the rest is as above, S_t = Σ_{s ≤ t} k_sᵀ u_s:
//
//     dq_t = do_t S_tᵀ                     = Σ_{s ≤ t} (do_t·u_s) k_s
//     dk_t = u_t dS_tᵀ − dv_t S_{t−1}ᵀ     = Σ_{s ≥ t} (u_t·do_s) q_s − Σ_{s > t} (u_t·dv_s) k_s − Σ_{s < t} (dv_t·u_s)
//     k_s
//
// Tiles and segments are cut where those of a forward are.
#pragma once

#include <Kokkos_Core.hpp>

#include "kernels/state_scan.hpp"

namespace bsbr::kernels {

/// Rows of tokens that a pass of a gradient reads.
template <class Real>
struct GradientRows {
  Strided<const Real***> rows;  // [batch, tokens, heads · width]
  std::int64_t origin = 0;      // the token of the first row
  int width = 0;                // of one head
  bool ones = false;            // behind each row comes a 1

  KOKKOS_INLINE_FUNCTION const Real* row(std::int64_t batch, std::int64_t head, std::int64_t token) const {
    return &rows(batch, token - origin, head * width);
  }
};

/// What the passes of a gradient have in common. Tokens have their numbers in the order of the pass.
template <class Real>
struct GradientTokens {
  using Number = Real;

  std::int64_t batch = 0, heads = 0;
  int width = 0;  // of a head's results
  ScanOrder order;
  std::int64_t first = 0, last = 0;     // the numbers of the tokens with results
  std::int64_t origin = 0;              // the number of the first token of all
  std::int64_t step = 1;                // as in ScanTokens
  Strided<const std::uint8_t***> real;  // [batch, tokens, 1]: 0 where a token is padding; empty: none is
  std::int64_t real_origin = 0;         // the token of the first of these
  Strided<Real***> output;              // [batch, tokens, heads · width]
  std::int64_t output_origin = 0;       // the token of the first row

  KOKKOS_INLINE_FUNCTION std::int64_t begin() const {
    const std::int64_t of_step = first / step * step;
    return of_step > origin ? of_step : origin;
  }
  KOKKOS_INLINE_FUNCTION std::int64_t end() const { return last / step * step; }

  KOKKOS_INLINE_FUNCTION bool is_real(std::int64_t sequence, std::int64_t number) const {
    return real.data() == nullptr || real(sequence, order.token(number) - real_origin, 0) != 0;
  }
};

/// result_t = Σ_{s ≤ t} (query_t·key_s) value_s of the numbers s and t, with the decay of a rule if it has one.
template <class Real>
struct RowTokens : GradientTokens<Real> {
  GradientRows<Real> query, key, value;
  int extra_rows = 0;          // elements that queries and keys have more than values
  int sees_itself = 1;         // 0: s < t
  bool masks_keys = false;     // keys and values of padding are left out
  bool masks_results = false;  // the results of padding are 0
  bool adds = false;           // the results are added to what is there
  Real factor = 1;             // of the results
};

/// dv of a rule whose u corrects the state, and E: see above.
template <class Real>
struct AdjointTokens : GradientTokens<Real> {
  GradientRows<Real> query, key, output_gradient;
};

/// The rule of the passes over RowTokens.
template <class Rule>
struct RowRule {
  static constexpr bool sees_own_step = Rule::sees_own_step, corrects_state = false;
  Rule rule;

  KOKKOS_FUNCTION int extra_columns() const { return 0; }
  KOKKOS_FUNCTION auto decay(std::int64_t head) const requires decays<Rule> { return rule.decay(head); }
  template <class Tile>
  KOKKOS_FUNCTION void prepare(const Team&, const Tile&, int) const {}  // values are what they are
};

/// The rule of the pass over AdjointTokens.
template <class Rule>
struct AdjointRule {
  static constexpr bool sees_own_step = true, corrects_state = true, sums_read_queries = true;
  Rule rule;

  KOKKOS_FUNCTION int extra_columns() const { return 0; }
  template <class Tile>
  KOKKOS_FUNCTION void prepare(const Team& team, const Tile& tile, int count) const {
    rule.prepare(team, tile, count);
  }
};

template <class Real, class Rule>
ScanParts parts_of(const RowTokens<Real>& tokens, const Rule& rule) {
  return {tokens.batch, tokens.heads, tokens.width, rule.extra_columns(), tokens.extra_rows};
}

template <class Real, class Rule>
ScanParts parts_of(const AdjointTokens<Real>& tokens, const Rule& rule) {
  return {tokens.batch, tokens.heads, tokens.width, rule.extra_columns()};
}

namespace detail {

/// tile.keys[t, :] = the keys of the tokens [first, first + count); zeros where they are left out.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void load_gradient_keys(const Team& team, const GradientTokens<Real>& tokens,
                                               const GradientRows<Real>& keys, bool masks, const ScanPart& part,
                                               std::int64_t first, int count, const Tile& tile) {
  const int stride = padded<Real>(tile.key_width);
  const auto is_taken = [&](int t) { return !masks || tokens.is_real(part.batch, first + t); };
  const auto key = [&](int t) -> const Real* {
    return is_taken(t) ? keys.row(part.batch, part.head, tokens.order.token(first + t)) : nullptr;
  };
  load_padded_rows(team, count, key, keys.width, tile.keys, stride);
  if (keys.ones) for_each(team, count, [&](const int t) { tile.keys[t * stride + keys.width] = is_taken(t) ? 1 : 0; });
}

template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void load_tokens(const Team& team, const RowTokens<Real>& tokens, const Rule&,
                                        const ScanPart& part, std::int64_t first, int count, const Tile& tile) {
  load_gradient_keys(team, tokens, tokens.key, tokens.masks_keys, part, first, count, tile);
  const auto value = [&](int t) -> const Real* {
    if (tokens.masks_keys && !tokens.is_real(part.batch, first + t)) return nullptr;
    return tokens.value.row(part.batch, part.head, tokens.order.token(first + t)) + part.column;
  };
  load_padded_rows(team, count, value, part.columns, tile.values, tile.stride);
}

/// transposed[k, t] = element k of the query of token first + t; 0 where its result is not wanted.
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void load_queries(const Team& team, const RowTokens<Real>& tokens, const Rule&,
                                         const ScanPart& part, std::int64_t first, int count, const Tile& tile) {
  const auto is_wanted = [&](int t) {
    return t < count && first + t >= tokens.first && (!tokens.masks_results || tokens.is_real(part.batch, first + t));
  };
  const auto query = [&](int t) -> const Real* {
    return is_wanted(t) ? tokens.query.row(part.batch, part.head, tokens.order.token(first + t)) : nullptr;
  };
  transpose_rows(team, Tile::tokens, tokens.query.width, Real(1), query, tile.transposed, Tile::score_stride);
  if (!tokens.query.ones) return;
  Real* last = tile.transposed + tokens.query.width * Tile::score_stride;
  for_each(team, Tile::tokens, [&](const int t) { last[t] = is_wanted(t) ? 1 : 0; });
}

template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION LeftFactor<Real> queries_from(const Team&, const RowTokens<Real>& tokens, const ScanPart& part,
                                                     std::int64_t first, int, const Tile&) {
  const auto stride = static_cast<std::int64_t>(tokens.query.rows.stride(1));
  return {tokens.query.row(part.batch, part.head, tokens.order.token(first)),
          tokens.order.is_mirrored() ? -stride : stride, 1};
}

/// Results of the tokens [first, first + count) that are this rank's: those of padding are 0 if `masks`. results: a row
/// of each token; result(result, output): what becomes of an element.
template <class Real, class Result>
KOKKOS_INLINE_FUNCTION void store_gradient(const Team& team, const GradientTokens<Real>& tokens, bool masks,
                                           const ScanPart& part, std::int64_t first, int count, const Real* results,
                                           int stride, const Result& result) {
  const int earlier = first < tokens.first ? static_cast<int>(tokens.first - first) : 0;
  for_each_in_rows(team, count - earlier, part.columns, [&](const int row) {
    const int t = earlier + row;
    const bool taken = !masks || tokens.is_real(part.batch, first + t);
    const Real* from = results + t * stride;
    Real* to = &tokens.output(part.batch, tokens.order.token(first + t) - tokens.output_origin,
                              part.head * tokens.width + part.column);
    return [=](const int i) { to[i] = result(taken ? from[i] : Real(0), to[i]); };
  });
}

template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void store_results(const Team& team, const RowTokens<Real>& tokens, const Rule&,
                                          const ScanPart& part, std::int64_t first, int count, const Tile& tile) {
  const Real factor = tokens.factor;
  if (tokens.adds) {
    const auto add = [=](Real result, Real before) { return before + factor * result; };
    store_gradient(team, tokens, tokens.masks_results, part, first, count, tile.output, tile.stride, add);
  } else {
    const auto set = [=](Real result, Real) { return factor * result; };
    store_gradient(team, tokens, tokens.masks_results, part, first, count, tile.output, tile.stride, set);
  }
}

/// tile.output[t, :] = factor · do_t, of the blocks of E, and T's; tile.transposed, of all tokens of the tile: q_t.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void load_output_gradient(const Team& team, const AdjointTokens<Real>& tokens,
                                                 const ScanPart& part, std::int64_t first, int count, Real factor,
                                                 const Tile& tile) {
  for_each_in_rows(team, count, tile.block, [&](const int t) {
    const Real* from = tokens.output_gradient.row(part.batch, part.head, tokens.order.token(first + t)) + part.column;
    Real* to = tile.output + t * tile.stride;
    const int columns = part.columns, block = tile.block;
    return [=](const int i) {
      const Real element = i < columns ? factor * from[i] : Real(0);
      to[i] = element;
      if constexpr (Tile::blocks == 3) to[block + i] = element;
    };
  });
}

/// A tile of AdjointTokens, whose rows come in the order of the pass:
///
///     dv_t = β (Σ_{s ≤ t} (k_t·q_s) do_s − k_t E) − β Σ_{s < t} (k_t·k_s) dv_s,   E ← E + Σ_t k_tᵀ dv_t − Σ_t q_tᵀ
///     do_t
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void scan_tile(const Team& team, const AdjointTokens<Real>& tokens, const Rule& rule,
                                      const ScanPart& part, std::int64_t begin, std::int64_t end, bool goes_on,
                                      const Tile& tile) {
  constexpr int with_values = Tile::blocks == 1 ? 1 : Tile::blocks - 1;  // A's block has none
  const auto count = static_cast<int>(end - begin);
  const int columns = with_values * tile.block;
  load_gradient_keys(team, tokens, tokens.key, true, part, begin, count, tile);
  const auto query = [&](int t) -> const Real* {
    return t < count ? tokens.query.row(part.batch, part.head, tokens.order.token(begin + t)) : nullptr;
  };
  transpose_rows(team, Tile::tokens, tile.key_width, Real(1), query, tile.transposed, Tile::score_stride);
  transpose_keys(team, count, tile);
  form_step_scores(team, 0, count, tile);

  // values[t] = Σ_{s ≤ t} (k_t·q_s) do_s
  load_output_gradient(team, tokens, part, begin, count, Real(1), tile);
  for_each(team, count * tile.stride, [&](const int i) { tile.values[i] = 0; });
  const auto up_to_itself = [](int t) { return DepthRange{0, t + 1}; };
  add_product_of_ranges(team, count, columns, up_to_itself, LeftFactor<Real>{tile.scores, Tile::score_stride, 1},
                        tile.output, tile.stride, tile.values, tile.stride);
  rule.prepare(team, tile, count);
  if constexpr (Tile::has_results) {
    const auto set = [](Real result, Real) { return result; };
    store_gradient(team, tokens, true, part, begin, count, tile.values, tile.stride, set);
  }
  if (!goes_on) return;
  add_to_state(team, count, tile);
  load_output_gradient(team, tokens, part, begin, count, Real(-1), tile);
  add_product(team, tile.key_width, columns, count, LeftFactor<Real>{tile.transposed, Tile::score_stride, 1},
              tile.output, tile.stride, tile.sum, tile.stride);
}

}  // namespace detail

}  // namespace bsbr::kernels
