// Third kernel family: one running state for each head, carried along the sequence.
//
//     o_t = q_t S,   S ← S + Σ_s k_sᵀ u_s        [key width, value width]
//
// in steps of some tokens. What a step's tokens see of their own step, and what u is, is the rule of an architecture:
//
//     linear, delta_net   o_t = q_t S + Σ_{s ≤ t of the step} (q_t·k_s) u_s;   steps are tiles
//     gau                 o_t = q_t S, as the rest is softmax attention;       steps are chunks, of several tiles
//
// A rule whose state decays multiplies S by γ before each token: of a step of n tokens, t = 0, 1, …
//
//     o_t = γ^(t+1) q_t S + Σ_{s ≤ t} γ^(t−s) (q_t·k_s) u_s,   S ← γⁿ S + Σ_s γ^(n−1−s) k_sᵀ u_s
//
// The columns of S do not depend on each other: teams share out batch, heads and blocks of columns, and each goes
// through the whole sequence with its block of S in scratch. Steps are cut at global positions, so that results do not
// depend on the ranks.
#pragma once

#include <Kokkos_Core.hpp>
#include <concepts>
#include <string>

#include "kernels/chunk_state.hpp"
#include "kernels/tokens.hpp"
#include "kernels/transpose.hpp"

namespace bsbr::kernels {

/// Stands for a function that says which rows of a tile are wanted.
struct EveryRow {
  KOKKOS_INLINE_FUNCTION bool operator()(int) const { return true; }
};

// A rule says what an architecture does; it is copied to the device. One concept for each of its members, so that the
// compiler names the one that is missing.

/// Whether a token sees the earlier ones of its step, and whether prepare() wants k_s·k_t.
template <class Rule>
concept SaysWhatItSees = requires {
  { Rule::sees_own_step } -> std::convertible_to<bool>;
  { Rule::needs_key_scores } -> std::convertible_to<bool>;
};

/// int extra_columns(): columns of ones that values have besides their own: 0 or 1.
template <class Rule>
concept HasExtraColumns = requires(const Rule& rule) {
  { rule.extra_columns() } -> std::same_as<int>;
};

/// void map(team, head, rows, wanted): what is done in place to the queries or keys of a head: those of the TileRows
/// that wanted(row).
template <class Rule, class Real>
concept MapsRows = requires(const Rule& rule, const Team& team, std::int64_t head, const TileRows<Real>& rows) {
  rule.map(team, head, rows, EveryRow());
};

/// auto store(batch, token, column, columns, const Real* row, Real* output): a function of i that writes output[i], for
/// i < columns. row: of one token `columns` results from `column` on, and those of the extra columns; token: counted
/// from ScanTokens::first.
template <class Rule, class Real>
concept StoresResults = requires(const Rule& rule, std::int64_t at, int columns, const Real* row, Real* output) {
  rule.store(at, at, at, columns, row, output)(columns);
};

/// Where tokens see their own step, also void prepare(team, tile, count): tile.values: v → u, of the `count` tokens of
/// a ScanTile. It is a template, which no concept can ask for.
template <class Rule, class Real>
concept ScanRule = SaysWhatItSees<Rule> && HasExtraColumns<Rule> && MapsRows<Rule, Real> && StoresResults<Rule, Real>;

/// Real decay(head), of a rule that has it: by how much the state of a head is multiplied before each token, S ← γ S +
/// kᵀu. Tokens must see their own step.
template <class Rule>
inline constexpr bool decays = requires(const Rule& rule, std::int64_t head) {
  rule.decay(head);
};

/// The tokens of a scan, and where their results go. Tokens are numbered in the whole sequence.
template <class Real>
struct ScanTokens {
  Strided<const Real***> query;  // of the tokens from `first` on
  KeysAndValues<Real> keys;      // of the tokens from begin() on
  Array<Real***> output;         // [batch, tokens, heads · width], from `first` on
  std::int64_t batch, heads;
  int width;                 // of a head's queries, keys and values
  std::int64_t first, last;  // the tokens with results
  std::int64_t step;         // tokens of one step; where it sees itself, tokens_of_scan_tile()

  /// The scan begins with the step that the first token is in, and leaves the state before the step that the next
  /// rank's first token is in.
  KOKKOS_INLINE_FUNCTION std::int64_t begin() const { return first / step * step; }
  KOKKOS_INLINE_FUNCTION std::int64_t end() const { return last / step * step; }
};

/// How the states of all heads are cut into parts, each one team's: a block of columns of one head of one sequence,
/// with the extra columns behind it. In memory a part is [key width][columns + extra columns], and part after part
/// [batch][head][block].
struct ScanParts {
  std::int64_t batch, heads;
  int width, extra_columns;

  KOKKOS_INLINE_FUNCTION int blocks() const { return (width + tuning::scan_columns - 1) / tuning::scan_columns; }
  /// Columns of a block; the last one may have fewer.
  KOKKOS_INLINE_FUNCTION int columns() const { return (width + blocks() - 1) / blocks(); }
  KOKKOS_INLINE_FUNCTION std::int64_t count() const { return batch * heads * blocks(); }
  /// Elements of one part.
  KOKKOS_INLINE_FUNCTION std::int64_t elements() const { return std::int64_t{width} * (columns() + extra_columns); }
};

/// Scratch of one team; shapes in [ ]. T tokens: tuning::state_tile, or a half or a quarter of it on a GPU where the
/// scratch would otherwise not fit into shared memory.
template <class Real, class Rule, int division>
struct ScanTile {
  using Number = Real;
  static constexpr int tokens = tuning::state_tile / division;
  static constexpr int score_columns = Rule::needs_key_scores ? 2 * tokens : tokens;
  static constexpr int score_stride = score_columns + lanes<Real>;  // no power of two

  Real* keys;        // [T, padded key width]
  Real* values;      // [T, padded columns]
  Real* state;       // [key width, padded columns]
  Real* output;      // [T, padded columns]
  Real* row;         // [padded key width], of one query
  Real* transposed;  // [key width, T queries, then T keys where their scores are needed]: what scores are formed from
  Real* scores;      // [T keys, T queries, then T keys]
  Real* powers;      // [T + 1], of the decay: 1, γ, γ², …
  int key_width, stride;  // stride: padded columns

  KOKKOS_INLINE_FUNCTION static std::int64_t bytes(int key_width, int columns) {
    const std::int64_t rows = scratch_bytes<Real>(std::int64_t{tokens} * padded<Real>(columns));
    const std::int64_t scores =
        scratch_bytes<Real>(std::int64_t{key_width} * score_stride) + scratch_bytes<Real>(tokens * score_stride);
    return scratch_bytes<Real>(std::int64_t{tokens} * padded<Real>(key_width)) + 2 * rows +
           scratch_bytes<Real>(std::int64_t{key_width} * padded<Real>(columns)) +
           scratch_bytes<Real>(padded<Real>(key_width)) + (Rule::sees_own_step ? scores : 0) +
           (decays<Rule> ? scratch_bytes<Real>(tokens + 1) : 0);
  }

  KOKKOS_INLINE_FUNCTION ScanTile(Scratch& scratch, int width, int columns)
      : keys(scratch.template take<Real>(std::int64_t{tokens} * padded<Real>(width))),
        values(scratch.template take<Real>(std::int64_t{tokens} * padded<Real>(columns))),
        state(scratch.template take<Real>(std::int64_t{width} * padded<Real>(columns))),
        output(scratch.template take<Real>(std::int64_t{tokens} * padded<Real>(columns))),
        row(scratch.template take<Real>(padded<Real>(width))),
        transposed(Rule::sees_own_step ? scratch.template take<Real>(std::int64_t{width} * score_stride) : nullptr),
        scores(Rule::sees_own_step ? scratch.template take<Real>(tokens * score_stride) : nullptr),
        powers(decays<Rule> ? scratch.template take<Real>(tokens + 1) : nullptr),
        key_width(width),
        stride(padded<Real>(columns)) {}
};

/// f(std::integral_constant<int, division>) with the division that tiles have for heads of this width.
template <class Real, class Rule, class Function>
auto with_scan_tile(const Rule& rule, int width, Function&& f) {
  const ScanParts parts{1, 1, width, rule.extra_columns()};
  return with_division(
      [&](auto division) {
        return ScanTile<Real, Rule, division>::bytes(width, parts.columns() + parts.extra_columns);
      },
      f);
}

/// Tokens of a step that sees itself: one tile.
template <class Real, class Rule>
std::int64_t tokens_of_scan_tile(const Rule& rule, int width) {
  return with_scan_tile<Real>(rule, width,
                              [](auto division) -> std::int64_t { return ScanTile<Real, Rule, division>::tokens; });
}

/// Scratch of a team, in bytes.
template <class Real, class Rule>
std::int64_t scan_scratch_bytes(const Rule& rule, int width) {
  const ScanParts parts{1, 1, width, rule.extra_columns()};
  return with_scan_tile<Real>(rule, width, [&](auto division) {
    return ScanTile<Real, Rule, division>::bytes(width, parts.columns() + parts.extra_columns);
  });
}

namespace detail {

/// tile.state[k, :] = S[k, :]. state: of one part, in memory; null: zeros.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void load_state(const Team& team, const Real* state, int columns, const Tile& tile) {
  for_each(team, tile.key_width * tile.stride, [&](const int i) {
    const int row = i / tile.stride, column = i % tile.stride;
    tile.state[i] = state != nullptr && column < columns ? state[row * columns + column] : Real(0);
  });
}

/// S[k, :] = tile.state[k, :]; null: not wanted.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void save_state(const Team& team, Real* state, int columns, const Tile& tile) {
  if (state == nullptr) return;
  for_each(team, tile.key_width * columns,
           [&](const int i) { state[i] = tile.state[i / columns * tile.stride + i % columns]; });
}

/// What one team goes through: a head of a sequence, and a block of columns of its values.
struct ScanPart {
  std::int64_t batch, head;
  int column, columns;  // the extra ones not counted
};

/// Which of a tile's tokens are real: token t of the tile has number first + t among those whose keys are at hand.
struct RealTokens {
  const std::uint8_t* mask;  // null: all
  std::int64_t first;

  KOKKOS_INLINE_FUNCTION bool operator()(int t) const { return mask == nullptr || mask[first + t] != 0; }
};

/// tile.keys[t, :] = k_t as the rule maps it; zeros where a token is padding.
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void load_keys(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                      const ScanPart& part, const RealTokens& is_real, int count, const Tile& tile) {
  const TokenRows<Real> keys = tokens.keys.keys_of(part.batch, part.head, tokens.width);
  load_rows(team, keys, is_real.mask, is_real.first, count, tile.keys);
  rule.map(team, part.head, TileRows<Real>{tile.keys, count, tokens.width, padded<Real>(tokens.width), 1}, is_real);
}

/// tile.values[t, :] = v_t, of this part's columns, and 1 in the extra ones; zeros where a token is padding.
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void load_values(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                        const ScanPart& part, const RealTokens& is_real, int count, const Tile& tile) {
  const TokenRows<Real> values =
      tokens.keys.values_of(part.batch, part.head, tokens.width).columns(part.column, part.columns);
  const auto row = [&](int t) { return is_real(t) ? values.data + (is_real.first + t) * values.stride : nullptr; };
  load_padded_rows(team, count, row, part.columns, tile.values, tile.stride);
  for_each(team, count * rule.extra_columns(),
           [&](const int t) { tile.values[t * tile.stride + part.columns] = is_real(t) ? 1 : 0; });
}

/// Keys and values of the tokens [first, first + count).
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void load_tokens(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                        const ScanPart& part, std::int64_t first, int count, const Tile& tile) {
  const RealTokens is_real{tokens.keys.mask(part.batch), first - tokens.keys.origin};
  load_keys(team, tokens, rule, part, is_real, count, tile);
  load_values(team, tokens, rule, part, is_real, count, tile);
}

/// tile.output[t, :] = q_t S; the queries are the rows of `left`.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void apply_running_state(const Team& team, int count, const LeftFactor<Real>& left,
                                                const Tile& tile) {
  for_each(team, count * tile.stride, [&](const int i) { tile.output[i] = 0; });
  add_product(team, count, tile.stride, tile.key_width, left, tile.state, tile.stride, tile.output, tile.stride);
}

/// S += Σ k_sᵀ u_s of the tile.
template <class Tile>
KOKKOS_INLINE_FUNCTION void add_to_state(const Team& team, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  add_product(team, tile.key_width, tile.stride, count, LeftFactor<Real>{tile.keys, 1, padded<Real>(tile.key_width)},
              tile.values, tile.stride, tile.state, tile.stride);
}

/// o_t, as the rule finishes it, of the tokens [first, first + count) that are this rank's.
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void store_results(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                          const ScanPart& part, std::int64_t first, int count, const Tile& tile) {
  const int earlier = first < tokens.first ? static_cast<int>(tokens.first - first) : 0;  // tokens of the rank before
  for_each_in_rows(team, count - earlier, part.columns, [&](const int row) {
    const int t = earlier + row;
    const std::int64_t local = first + t - tokens.first, column = part.head * tokens.width + part.column;
    return rule.store(part.batch, local, column, part.columns, tile.output + t * tile.stride,
                      &tokens.output(part.batch, local, column));
  });
}

/// The queries of the tokens [first, first + count) as they lie in memory; null for a token of the rank before, whose
/// result is not wanted, and beyond `count`.
template <class Real>
struct QueriesOfTile {
  const Real* data;  // of the token tokens.first
  std::int64_t stride, first, wanted;
  int count;

  KOKKOS_INLINE_FUNCTION QueriesOfTile(const ScanTokens<Real>& tokens, const ScanPart& part, std::int64_t first_token,
                                       int tile_tokens)
      : data(&tokens.query(part.batch, 0, part.head * tokens.width)),
        stride(static_cast<std::int64_t>(tokens.query.stride(1))),
        first(first_token),
        wanted(tokens.first),
        count(tile_tokens) {}

  KOKKOS_INLINE_FUNCTION const Real* operator()(int t) const {
    return t < count && first + t >= wanted ? data + (first + t - wanted) * stride : nullptr;
  }
};

/// transposed[k, t] = element k of q_t as the rule maps it; 0 where there is none. A host maps a query as a row, a GPU
/// all of them as columns.
template <class Tile, class Real, class Rule>
inline void transpose_queries(const SerialTeam& team, const QueriesOfTile<Real>& queries, const Rule& rule,
                              std::int64_t head, const Tile& tile) {
  const int width = tile.key_width;
  for (int t = 0; t < Tile::tokens; ++t) {
    const Real* query = queries(t);
    for_each(team, width, [&](const int k) { tile.row[k] = query != nullptr ? query[k] : Real(0); });
    if (query != nullptr) rule.map(team, head, TileRows<Real>{tile.row, 1, width, width, 1}, EveryRow());
    for_each(team, width, [&](const int k) { tile.transposed[k * Tile::score_stride + t] = tile.row[k]; });
  }
}

template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void transpose_queries(const TeamMember& team, const QueriesOfTile<Real>& queries,
                                              const Rule& rule, std::int64_t head, const Tile& tile) {
  const auto is_wanted = [&](int t) { return queries(t) != nullptr; };
  transpose_rows(team, Tile::tokens, tile.key_width, Real(1), queries, tile.transposed, Tile::score_stride);
  rule.map(team, head, TileRows<Real>{tile.transposed, Tile::tokens, tile.key_width, 1, Tile::score_stride}, is_wanted);
}

/// transposed[k, T + t] = element k of the key of token t; 0 beyond `count`.
template <class Tile>
KOKKOS_INLINE_FUNCTION void transpose_keys(const Team& team, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  const int key_stride = padded<Real>(tile.key_width);
  const auto key = [&](int t) -> const Real* { return t < count ? tile.keys + t * key_stride : nullptr; };
  transpose_rows(team, Tile::tokens, tile.key_width, Real(1), key, tile.transposed + Tile::tokens, Tile::score_stride);
}

/// scores[s, t] = k_s·q_t, and where they are needed in the second half k_s·k_t. Those of s > t are not used.
template <class Tile>
KOKKOS_INLINE_FUNCTION void form_step_scores(const Team& team, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  constexpr int columns = Tile::score_columns, stride = Tile::score_stride;
  for_each(team, count * stride, [&](const int i) { tile.scores[i] = 0; });
  add_product(team, count, columns, tile.key_width, LeftFactor<Real>{tile.keys, padded<Real>(tile.key_width), 1},
              tile.transposed, stride, tile.scores, stride);
}

/// output[t, :] += Σ_{s ≤ t} scores[s, t] u_s
template <class Tile>
KOKKOS_INLINE_FUNCTION void add_own_step(const Team& team, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  add_product_of_ranges(
      team, count, tile.stride,
      [](int t) {
        return DepthRange{0, t + 1};
      },
      LeftFactor<Real>{tile.scores, 1, Tile::score_stride}, tile.values, tile.stride, tile.output, tile.stride);
}

/// powers[j] = γ^j, one factor after the other, by one thread: so that they do not depend on the team.
template <class Tile, class Rule>
KOKKOS_INLINE_FUNCTION void form_powers(const Team& team, const Rule& rule, std::int64_t head, const Tile& tile) {
  if constexpr (decays<Rule>) {
    const auto decay = rule.decay(head);
    for_each(team, 1, [&](int) {
      tile.powers[0] = 1;
      for (int j = 0; j < Tile::tokens; ++j) tile.powers[j + 1] = tile.powers[j] * decay;
    });
  }
}

/// What has been multiplied with γ when token t is read: scores[s, t] γ^(t−s), and q_t γ^(t+1), which meets the state.
template <class Tile>
KOKKOS_INLINE_FUNCTION void decay_queries(const Team& team, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  for_each_in_rows(team, count, count, [&](const int s) {
    Real* row = tile.scores + s * Tile::score_stride;
    return [=](const int t) { row[t] *= t >= s ? tile.powers[t - s] : Real(0); };
  });
  for_each_in_rows(team, tile.key_width, count, [&](const int k) {
    Real* row = tile.transposed + k * Tile::score_stride;
    return [=](const int t) { row[t] *= tile.powers[t + 1]; };
  });
}

/// The same when the step has ended: k_s γ^(n−1−s), S γⁿ.
template <class Tile>
KOKKOS_INLINE_FUNCTION void decay_state(const Team& team, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  const int key_stride = padded<Real>(tile.key_width);
  for_each_in_rows(team, count, tile.key_width, [&](const int s) {
    Real* row = tile.keys + s * key_stride;
    const Real factor = tile.powers[count - 1 - s];
    return [=](const int k) { row[k] *= factor; };
  });
  for_each(team, tile.key_width * tile.stride, [&](const int i) { tile.state[i] *= tile.powers[count]; });
}

/// A step whose tokens see each other: one tile.
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void scan_tile(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                      const ScanPart& part, std::int64_t begin, std::int64_t end, const Tile& tile) {
  const auto count = static_cast<int>(end - begin);
  load_tokens(team, tokens, rule, part, begin, count, tile);
  transpose_queries(team, QueriesOfTile<Real>(tokens, part, begin, count), rule, part.head, tile);
  if constexpr (Rule::needs_key_scores) transpose_keys(team, count, tile);
  form_step_scores(team, count, tile);
  rule.prepare(team, tile, count);
  if constexpr (decays<Rule>) decay_queries(team, count, tile);
  apply_running_state(team, count, LeftFactor<Real>{tile.transposed, 1, Tile::score_stride}, tile);
  add_own_step(team, count, tile);
  store_results(team, tokens, rule, part, begin, count, tile);
  if constexpr (decays<Rule>) decay_state(team, count, tile);
  add_to_state(team, count, tile);
}

/// A step whose tokens do not: a chunk, tile by tile, first what its tokens see and then what they add.
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void scan_chunk(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                       const ScanPart& part, std::int64_t begin, std::int64_t end, const Tile& tile) {
  constexpr int size = Tile::tokens;
  const auto count_at = [&](std::int64_t first) { return end - first < size ? static_cast<int>(end - first) : size; };
  const auto queries = token_rows(tokens.query, part.batch, part.head * tokens.width, tokens.width);
  // o_t = q_t S, of this rank's tokens
  for (std::int64_t first = begin < tokens.first ? tokens.first : begin; first < end; first += size) {
    const Real* query = queries.data + (first - tokens.first) * queries.stride;
    apply_running_state(team, count_at(first), LeftFactor<Real>{query, queries.stride, 1}, tile);
    store_results(team, tokens, rule, part, first, count_at(first), tile);
  }

  // S += Σ_s k_sᵀ u_s
  for (std::int64_t first = begin; first < end; first += size) {
    load_tokens(team, tokens, rule, part, first, count_at(first), tile);
    add_to_state(team, count_at(first), tile);
  }
}

/// before, after: the part's state in memory, `stored` columns wide.
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void scan_part(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                      const ScanPart& part, const Real* before, Real* after, int stored,
                                      const Tile& tile) {
  load_state(team, before, stored, tile);
  form_powers(team, rule, part.head, tile);
  for (std::int64_t begin = tokens.begin(); begin < tokens.last; begin += tokens.step) {
    if (begin == tokens.end()) save_state(team, after, stored, tile);
    const std::int64_t end = begin + tokens.step < tokens.last ? begin + tokens.step : tokens.last;
    if constexpr (Rule::sees_own_step) {
      scan_tile(team, tokens, rule, part, begin, end, tile);
    } else {
      static_assert(!decays<Rule>, "a state that decays is of tokens that see their own step");
      scan_chunk(team, tokens, rule, part, begin, end, tile);
    }
  }
  if (tokens.end() == tokens.last) save_state(team, after, stored, tile);
}

}  // namespace detail

/// state_scan() with tiles of a division.
template <int division, class Real, class Rule>
void state_scan_of(const Execution& execution, const std::string& label, const ScanTokens<Real>& tokens,
                   const Rule& rule, std::int64_t first_part, std::int64_t count, const Array<const Real*>& before,
                   const Array<Real*>& after) {
  using Tile = ScanTile<Real, Rule, division>;
  const ScanParts parts{tokens.batch, tokens.heads, tokens.width, rule.extra_columns()};
  const std::int64_t bytes = Tile::bytes(tokens.width, parts.columns() + parts.extra_columns);
  Kokkos::parallel_for(
      label, team_policy(execution, count, bytes), KOKKOS_LAMBDA(const TeamMember& member) {
        const std::int64_t index = first_part + member.league_rank(), head = index / parts.blocks();
        const int column = static_cast<int>(index % parts.blocks()) * parts.columns();
        const int columns = parts.width - column < parts.columns() ? parts.width - column : parts.columns();
        const int stored = parts.columns() + parts.extra_columns;
        const detail::ScanPart part{head / parts.heads, head % parts.heads, column, columns};
        Scratch scratch(member, bytes);
        const Tile tile(scratch, parts.width, stored);
        detail::scan_part(as_team(member), tokens, rule, part,
                          before.data() == nullptr ? nullptr : before.data() + index * parts.elements(),
                          after.data() == nullptr ? nullptr : after.data() + index * parts.elements(), stored, tile);
      });
}

/// Results of all tokens, of the `count` parts from first_part on. before, after: the states of all parts at
/// tokens.begin() and tokens.end(); without memory: zeros, and not wanted.
template <class Real, ScanRule<Real> Rule>
void state_scan(const Execution& execution, const std::string& label, const ScanTokens<Real>& tokens, const Rule& rule,
                std::int64_t first_part, std::int64_t count, const Array<const Real*>& before,
                const Array<Real*>& after) {
  if (count == 0 || tokens.first == tokens.last) return;
  with_scan_tile<Real>(rule, tokens.width, [&](auto division) {
    state_scan_of<division>(execution, label, tokens, rule, first_part, count, before, after);
  });
}

}  // namespace bsbr::kernels
