// A step of a scan by one team: scratch, and what is done in it, in the order of scan_tile() and scan_chunk(). The
// formulas are those of state_scan.hpp.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>

#include "kernels/chunk_state.hpp"
#include "kernels/scan_rule.hpp"
#include "kernels/tokens.hpp"
#include "kernels/transpose.hpp"

namespace bsbr::kernels {

/// Tokens of a segment whose steps have so many: about tuning::scan_segment, or one step.
KOKKOS_INLINE_FUNCTION constexpr std::int64_t segment_tokens(std::int64_t step) {
  return step < tuning::scan_segment ? tuning::scan_segment / step * step : step;
}

/// The order in which a scan comes to the tokens: it numbers them 0, 1, … from the first on, or from the last back to
/// the first. `mirror`: a multiple of a segment's tokens, so that the numbers of tiles and segments are whole ones,
/// too; token t is number mirror − 1 − t, and the numbers before that of the last token stand for nothing. 0: from the
/// first.
struct ScanOrder {
  std::int64_t mirror = 0;

  KOKKOS_INLINE_FUNCTION bool is_mirrored() const { return mirror > 0; }
  KOKKOS_INLINE_FUNCTION std::int64_t token(std::int64_t number) const {
    return is_mirrored() ? mirror - 1 - number : number;
  }
};

/// The tokens of a scan, and where their results go. Tokens are numbered in the whole sequence.
template <class Real>
struct ScanTokens {
  using Number = Real;
  HeadRows<Real> query;      // of the tokens from `first` on
  KeysAndValues<Real> keys;  // of the tokens from begin() on
  Array<Real***> output;     // [batch, tokens, heads · width], from `first` on
  std::int64_t batch, heads;
  int width;                 // of a head's queries, keys and values
  std::int64_t first, last;  // the tokens with results
  std::int64_t step;         // tokens of one step; where it sees itself, tokens_of_scan_tile()

  /// The scan begins with the step that the first token is in, and leaves the state before the step that the next
  /// rank's first token is in.
  KOKKOS_INLINE_FUNCTION std::int64_t begin() const { return first / step * step; }
  KOKKOS_INLINE_FUNCTION std::int64_t end() const { return last / step * step; }

  /// Of its own step token t sees the tokens before t + sees_itself.
  static constexpr int sees_itself = 1;
};

/// How the states of all heads are cut into parts, each one team's: a block of columns of one head of one sequence,
/// with the extra columns behind it. In memory a part is [key width][columns + extra columns], and part after part
/// [batch][head][block].
struct ScanParts {
  std::int64_t batch, heads;
  int width, extra_columns;
  int extra_rows = 0;  // of keys that are longer than values

  KOKKOS_INLINE_FUNCTION int blocks() const { return (width + tuning::scan_columns - 1) / tuning::scan_columns; }
  /// Columns of a block; the last one may have fewer.
  KOKKOS_INLINE_FUNCTION int columns() const { return (width + blocks() - 1) / blocks(); }
  KOKKOS_INLINE_FUNCTION int columns_of(int block) const {
    const int left = width - block * columns();
    return left < columns() ? left : columns();
  }
  KOKKOS_INLINE_FUNCTION std::int64_t count() const { return batch * heads * blocks(); }
  KOKKOS_INLINE_FUNCTION int key_width() const { return width + extra_rows; }
  /// Elements of a row of one part, and of all rows.
  KOKKOS_INLINE_FUNCTION int stored() const { return columns() + extra_columns; }
  KOKKOS_INLINE_FUNCTION std::int64_t elements() const { return std::int64_t{key_width()} * stored(); }
  /// Elements of all parts: of the states of a batch.
  KOKKOS_INLINE_FUNCTION std::int64_t total() const { return count() * elements(); }
};

template <class Real, ScanRule<Real> Rule>
ScanParts parts_of(const ScanTokens<Real>& tokens, const Rule& rule) {
  return {tokens.batch, tokens.heads, tokens.width, rule.extra_columns()};
}

/// Whether the sums of a rule's segments depend on queries: those of a gradient do.
template <class Rule>
inline constexpr bool sums_read_queries = requires {
  requires Rule::sums_read_queries;
};

/// What a rule keeps of a tile for its gradient: of the rows [begin, end), which are this rank's tokens from `token`
/// on, counted from its first one; of a head's columns [column, column + columns).
struct KeptRows {
  std::int64_t batch, token, head;
  int begin, end, column, columns;
};

/// What a launch forms: the sums of segments, their results, or both in one go.
enum class ScanPass { sums, results, both };

/// Blocks of columns that a team has side by side where u depends on the state: the running state's where there are
/// results, T's and A's where there are sums. Where it does not, u is the same for all, and one block is enough.
template <class Rule, ScanPass pass>
inline constexpr int scan_blocks = !Rule::corrects_state       ? 1
                                   : pass == ScanPass::sums    ? 2
                                   : pass == ScanPass::results ? 1
                                                               : 3;

/// Scratch of one team; shapes in [ ]. T tokens: tuning::state_tile, or a half or a quarter of it on a GPU where the
/// scratch would otherwise not fit into shared memory. Blocks: those of scan_blocks, each of padded columns.
template <class Real, class Rule, int division, ScanPass pass>
struct ScanTile {
  using Number = Real;
  static constexpr int tokens = tuning::state_tile / division;
  static constexpr int blocks = scan_blocks<Rule, pass>;
  static constexpr bool has_results = pass != ScanPass::sums, has_sums = pass != ScanPass::results;
  static constexpr bool has_queries = has_results || sums_read_queries<Rule>;
  static constexpr bool has_scores = Rule::sees_own_step && (has_queries || Rule::corrects_state);
  static constexpr bool splits_state = has_results && !Rule::corrects_state;
  static constexpr bool loads_queries = has_results && (Rule::sees_own_step ? on_host : StoredRow<Real>::may_be_packed);
  /// Scores are of queries, then of keys where these are needed.
  static constexpr int query_columns = has_queries ? tokens : 0, key_columns = Rule::corrects_state ? tokens : 0;
  static constexpr int score_columns = query_columns + key_columns;
  static constexpr int score_stride = score_columns + lanes<Real>;  // no power of two

  Real* keys;                    // [T, padded key width]
  Real* values;                  // [T, blocks]
  Real* state;                   // [key width, blocks]: what queries, and keys, meet
  Real* output;                  // [T, blocks]
  Real* before;                  // [key width, block]: the state before the segment, and …
  Real* sum;                     // [key width, block]: … Σ kᵀu of the segment up to here; their sum is the state
  Real* queries;                 // [T, padded key width], on a host
  Real* transposed;              // [key width, T queries, T keys]: what scores are formed from
  Real* scores;                  // [T keys, T queries, T keys]
  Real* powers;                  // [T + 1], of the decay: 1, γ, γ², …
  int key_width, block, stride;  // block: padded columns of one; stride: of all blocks

  KOKKOS_INLINE_FUNCTION static std::int64_t bytes(int key_width, int columns) {
    const std::int64_t block = padded<Real>(columns), rows = scratch_bytes<Real>(tokens * block * blocks);
    const std::int64_t scores =
        scratch_bytes<Real>(std::int64_t{key_width} * score_stride) + scratch_bytes<Real>(tokens * score_stride);
    return scratch_bytes<Real>(std::int64_t{tokens} * padded<Real>(key_width)) + 2 * rows +
           scratch_bytes<Real>(key_width * block * blocks) +
           (splits_state ? 2 * scratch_bytes<Real>(key_width * block) : 0) +
           (loads_queries ? scratch_bytes<Real>(std::int64_t{tokens} * padded<Real>(key_width)) : 0) +
           (has_scores ? scores : 0) + (decays<Rule> ? scratch_bytes<Real>(tokens + 1) : 0);
  }

  KOKKOS_INLINE_FUNCTION ScanTile(Scratch& scratch, int width, int columns)
      : keys(scratch.template take<Real>(std::int64_t{tokens} * padded<Real>(width))),
        values(scratch.template take<Real>(std::int64_t{tokens} * padded<Real>(columns) * blocks)),
        state(scratch.template take<Real>(std::int64_t{width} * padded<Real>(columns) * blocks)),
        output(scratch.template take<Real>(std::int64_t{tokens} * padded<Real>(columns) * blocks)),
        before(splits_state ? scratch.template take<Real>(std::int64_t{width} * padded<Real>(columns)) : nullptr),
        sum(splits_state ? scratch.template take<Real>(std::int64_t{width} * padded<Real>(columns)) : state),
        queries(loads_queries ? scratch.template take<Real>(std::int64_t{tokens} * padded<Real>(width)) : nullptr),
        transposed(has_scores ? scratch.template take<Real>(std::int64_t{width} * score_stride) : nullptr),
        scores(has_scores ? scratch.template take<Real>(tokens * score_stride) : nullptr),
        powers(decays<Rule> ? scratch.template take<Real>(tokens + 1) : nullptr),
        key_width(width),
        block(padded<Real>(columns)),
        stride(padded<Real>(columns) * blocks) {}

  /// Where the blocks of T and A begin in a row of the state.
  KOKKOS_INLINE_FUNCTION int sum_column() const { return pass == ScanPass::both ? block : 0; }
  KOKKOS_INLINE_FUNCTION int matrix_column() const { return sum_column() + block; }
};

/// f(std::integral_constant<int, division>) with the division that tiles have for such parts, in all passes.
template <class Real, class Rule, class Function>
auto with_scan_tile(const ScanParts& parts, Function&& f) {
  const int width = parts.key_width(), columns = parts.stored();
  return with_division(
      [&](auto division) {
        return std::max(ScanTile<Real, Rule, division, ScanPass::sums>::bytes(width, columns),
                        ScanTile<Real, Rule, division, ScanPass::results>::bytes(width, columns));
      },
      f);
}

/// Tokens of a step that sees itself: one tile.
template <class Real, class Rule>
std::int64_t tokens_of_scan_tile(const ScanParts& parts) {
  return with_scan_tile<Real, Rule>(
      parts, [](auto division) -> std::int64_t { return ScanTile<Real, Rule, division, ScanPass::results>::tokens; });
}
template <class Real, class Rule>
std::int64_t tokens_of_scan_tile(const Rule& rule, int width) {
  return tokens_of_scan_tile<Real, Rule>(ScanParts{1, 1, width, rule.extra_columns()});
}

/// The most scratch that a team has in any pass, in bytes.
template <class Real, class Rule>
std::int64_t scan_scratch_bytes(const ScanParts& parts) {
  const int width = parts.key_width(), columns = parts.stored();
  return with_scan_tile<Real, Rule>(parts, [&](auto division) {
    return std::max({ScanTile<Real, Rule, division, ScanPass::sums>::bytes(width, columns),
                     ScanTile<Real, Rule, division, ScanPass::results>::bytes(width, columns),
                     ScanTile<Real, Rule, division, ScanPass::both>::bytes(width, columns)});
  });
}
template <class Real, class Rule>
std::int64_t scan_scratch_bytes(const Rule& rule, int width) {
  return scan_scratch_bytes<Real, Rule>(ScanParts{1, 1, width, rule.extra_columns()});
}

namespace detail {

/// block[k, 0 … width) = source[k, 0 … columns), as far as it goes, then zeros, of `rows` rows; source: null: zeros.
template <class Real>
inline void load_block(const SerialTeam&, const Real* source, int rows, int columns, Real* block, int width,
                       int stride) {
  const int copied = source == nullptr ? 0 : std::min(columns, width);
  for (int row = 0; row < rows; ++row) {
    if (copied > 0) std::copy_n(source + std::int64_t{row} * columns, copied, block + row * stride);
    std::fill_n(block + row * stride + copied, width - copied, Real(0));
  }
}

template <class Real>
KOKKOS_INLINE_FUNCTION void load_block(const TeamMember& team, const Real* source, int rows, int columns, Real* block,
                                       int width, int stride) {
  for_each_in_rows(team, rows, width, [&](const int row) {
    const Real* from = source != nullptr ? source + std::int64_t{row} * columns : nullptr;
    Real* to = block + row * stride;
    return [=](const int i) { to[i] = from != nullptr && i < columns ? from[i] : Real(0); };
  });
}

/// target[k, 0 … columns) = block[k, 0 … columns)
template <class Real>
KOKKOS_INLINE_FUNCTION void save_block(const Team& team, const Real* block, int stride, int rows, int columns,
                                       Real* target) {
  for_each_in_rows(team, rows, columns, [&](const int row) {
    const Real* from = block + row * stride;
    Real* to = target + std::int64_t{row} * columns;
    return [=](const int i) { to[i] = from[i]; };
  });
}

/// What one team goes through: a head of a sequence, and a block of columns of its values.
struct ScanPart {
  std::int64_t batch, head;
  int column, columns;  // the extra ones not counted
  int stored;           // columns of a part in memory
};

/// States and sums of one part and one segment in memory. A null pointer: zeros (of A: the identity), or not wanted.
/// matrix: of A.
template <class Real>
struct PartMemory {
  const Real *before, *first_sum, *first_matrix;
  Real *sum, *matrix, *after;
};

/// tile.state: S before the segment; T and A of the segment up to here, A = the identity where it begins.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void start_segment(const Team& team, const ScanPart& part, const PartMemory<Real>& memory,
                                          const Tile& tile) {
  const int rows = tile.key_width, stored = part.stored;
  if constexpr (Tile::splits_state) {
    load_block(team, memory.before, rows, stored, tile.before, tile.block, tile.block);
    load_block(team, memory.first_sum, rows, stored, tile.sum, tile.block, tile.block);
  } else {
    if constexpr (Tile::has_results) load_block(team, memory.before, rows, stored, tile.state, tile.block, tile.stride);
    if constexpr (Tile::has_sums)
      load_block(team, memory.first_sum, rows, stored, tile.state + tile.sum_column(), tile.block, tile.stride);
  }
  if constexpr (Tile::has_sums && Tile::blocks > 1) {
    Real* matrix = tile.state + tile.matrix_column();
    load_block(team, memory.first_matrix, rows, stored, matrix, tile.block, tile.stride);
    if (memory.first_matrix != nullptr) return;
    for_each(team, part.columns, [&](const int i) { matrix[(part.column + i) * tile.stride + i] = 1; });
  }
}

/// tile.state = the state before the segment + Σ kᵀu of the segment up to here
template <class Tile>
KOKKOS_INLINE_FUNCTION void form_running_state(const Team& team, const Tile& tile) {
  if constexpr (Tile::splits_state)
    for_each(team, tile.key_width * tile.block, [&](const int i) { tile.state[i] = tile.before[i] + tile.sum[i]; });
}

template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void save_sums(const Team& team, const ScanPart& part, const PartMemory<Real>& memory,
                                      const Tile& tile) {
  if (memory.sum == nullptr) return;
  const int rows = tile.key_width, stored = part.stored;
  if constexpr (Tile::splits_state) {
    save_block(team, tile.sum, tile.block, rows, stored, memory.sum);
  } else if constexpr (Tile::has_sums) {
    save_block(team, tile.state + tile.sum_column(), tile.stride, rows, stored, memory.sum);
    if constexpr (Tile::blocks > 1)
      save_block(team, tile.state + tile.matrix_column(), tile.stride, rows, stored, memory.matrix);
  }
}

/// What the next rank goes on with: where u depends on the state that is the state, else that before the segment.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void save_after(const Team& team, const ScanPart& part, const PartMemory<Real>& memory,
                                       const Tile& tile) {
  if (memory.after == nullptr) return;
  const Real* state = Tile::splits_state ? tile.before : tile.state;
  save_block(team, state, Tile::splits_state ? tile.block : tile.stride, tile.key_width, part.stored, memory.after);
}

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

/// tile.values[t, :] = v_t, of this part's columns, and 1 in the extra ones; zeros where a token is padding. A's block
/// has no values: it is what the keys make of the identity.
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void load_values(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                        const ScanPart& part, const RealTokens& is_real, int count, const Tile& tile) {
  const TokenRows<Real> values =
      tokens.keys.values_of(part.batch, part.head, tokens.width).columns(part.column, part.columns);
  const auto row = [&](int t) { return is_real(t) ? values.row(is_real.first + t) : StoredRow<Real>(); };
  load_padded_rows(team, count, row, part.columns, tile.values, tile.stride);
  for_each(team, count * rule.extra_columns(),
           [&](const int t) { tile.values[t * tile.stride + part.columns] = is_real(t) ? 1 : 0; });
  if constexpr (Tile::blocks == 3) {  // those of the state, and of T
    for_each_in_rows(team, count, tile.block, [&](const int t) {
      Real* of_token = tile.values + t * tile.stride;
      return [=](const int i) { of_token[tile.block + i] = of_token[i]; };
    });
  }
}

/// Keys and values of the tokens [first, first + count).
template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void load_tokens(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                        const ScanPart& part, std::int64_t first, int count, const Tile& tile) {
  const RealTokens is_real{tokens.keys.mask(part.batch), first - tokens.keys.origin};
  load_keys(team, tokens, rule, part, is_real, count, tile);
  load_values(team, tokens, rule, part, is_real, count, tile);
}

/// tile.output[t, :] = x_t S of the first `columns` columns, for first ≤ t < count; x_t are the rows of `left`.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION void apply_running_state(const Team& team, int first, int count, int columns,
                                                const LeftFactor<Real>& left, const Tile& tile) {
  form_product(team, count - first, columns, tile.key_width,
               LeftFactor<Real>{left.data + first * left.row_stride, left.row_stride, left.depth_stride}, tile.state,
               tile.stride, tile.output + first * tile.stride, tile.stride);
}

/// Σ k_sᵀ u_s of the tile is added to the sum of the segment, and where u depends on the state to the state.
template <class Tile>
KOKKOS_INLINE_FUNCTION void add_to_state(const Team& team, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  add_product(team, tile.key_width, tile.stride, count, LeftFactor<Real>{tile.keys, 1, padded<Real>(tile.key_width)},
              tile.values, tile.stride, tile.sum, tile.stride);
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
  TokenRows<Real> rows;  // from the token tokens.first on
  std::int64_t first, wanted;
  int count;

  KOKKOS_INLINE_FUNCTION QueriesOfTile(const ScanTokens<Real>& tokens, const ScanPart& part, std::int64_t first_token,
                                       int tile_tokens)
      : rows(tokens.query.of_head(part.batch, part.head, tokens.width)),
        first(first_token),
        wanted(tokens.first),
        count(tile_tokens) {}

  KOKKOS_INLINE_FUNCTION StoredRow<Real> operator()(int t) const {
    return t < count && first + t >= wanted ? rows.row(first + t - wanted) : StoredRow<Real>();
  }
};

/// The first token of a tile whose result is wanted, or one before it: whole vectors of queries are computed.
template <class Real, class Tokens>
KOKKOS_INLINE_FUNCTION int first_wanted(const Tokens& tokens, std::int64_t first_token) {
  if (first_token >= tokens.first) return 0;
  return static_cast<int>(tokens.first - first_token) / lanes<Real> * lanes<Real>;
}

/// transposed[k, t] = element k of q_t as the rule maps it, for first ≤ t < count; 0 where there is none. A host maps
/// queries as rows, in tile.queries, a GPU as columns, and all.
template <class Tile, class Real, class Rule>
inline void transpose_queries(const SerialTeam& team, const QueriesOfTile<Real>& queries, int first, const Rule& rule,
                              std::int64_t head, const Tile& tile) {
  const int width = tile.key_width, stride = padded<Real>(width), count = padded<Real>(queries.count) - first;
  const auto query = [&](int t) { return queries(first + t); };
  const auto is_wanted = [&](int t) { return query(t) != nullptr; };
  load_padded_rows(team, count, query, width, tile.queries, stride);
  rule.map(team, head, TileRows<Real>{tile.queries, count, width, stride, 1}, is_wanted);
  const auto row = [&](int t) -> const Real* { return tile.queries + t * stride; };
  transpose_rows(team, count, width, Real(1), row, tile.transposed + first, Tile::score_stride);
}

template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void transpose_queries(const TeamMember& team, const QueriesOfTile<Real>& queries, int,
                                              const Rule& rule, std::int64_t head, const Tile& tile) {
  const auto is_wanted = [&](int t) { return queries(t) != nullptr; };
  transpose_rows(team, Tile::tokens, tile.key_width, Real(1), queries, tile.transposed, Tile::score_stride);
  rule.map(team, head, TileRows<Real>{tile.transposed, Tile::tokens, tile.key_width, 1, Tile::score_stride}, is_wanted);
}

template <class Tile, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void load_queries(const Team& team, const ScanTokens<Real>& tokens, const Rule& rule,
                                         const ScanPart& part, std::int64_t first, int count, const Tile& tile) {
  transpose_queries(team, QueriesOfTile<Real>(tokens, part, first, count), first_wanted<Real>(tokens, first), rule,
                    part.head, tile);
}

/// The queries of this rank's tokens [first, first + count), where they lie, or in tile.queries.
template <class Tile, class Real>
KOKKOS_INLINE_FUNCTION LeftFactor<Real> queries_from(const Team& team, const ScanTokens<Real>& tokens,
                                                     const ScanPart& part, std::int64_t first, int count,
                                                     const Tile& tile) {
  return rows_as_factor(team, tokens.query.of_head(part.batch, part.head, tokens.width), first - tokens.first, count,
                        tile.queries);
}

/// transposed[k, T + t] = element k of the key of token t; 0 beyond `count`.
template <class Tile>
KOKKOS_INLINE_FUNCTION void transpose_keys(const Team& team, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  const int key_stride = padded<Real>(tile.key_width);
  const auto key = [&](int t) -> const Real* { return t < count ? tile.keys + t * key_stride : nullptr; };
  transpose_rows(team, Tile::tokens, tile.key_width, Real(1), key, tile.transposed + Tile::query_columns,
                 Tile::score_stride);
}

/// scores[s, t] = k_s·q_t for first ≤ t < count, and where they are needed after them k_s·k_t of all t. Those of s > t
/// are not used.
template <class Tile>
KOKKOS_INLINE_FUNCTION void form_step_scores(const Team& team, int first, int count, const Tile& tile) {
  using Real = typename Tile::Number;
  const int end = Tile::score_columns - Tile::tokens + padded<Real>(count);  // of the last ones, queries or keys
  form_product(team, count, end - first, tile.key_width, LeftFactor<Real>{tile.keys, padded<Real>(tile.key_width), 1},
               tile.transposed + first, Tile::score_stride, tile.scores + first, Tile::score_stride);
}

/// output[t, :] += Σ_{s < t + sees_itself} scores[s, t] u_s for first ≤ t < count
template <class Tile>
KOKKOS_INLINE_FUNCTION void add_own_step(const Team& team, int first, int count, int sees_itself, const Tile& tile) {
  using Real = typename Tile::Number;
  add_product_of_ranges(
      team, count - first, tile.block,
      [=](int row) {
        return DepthRange{0, first + row + sees_itself};
      },
      LeftFactor<Real>{tile.scores + first, 1, Tile::score_stride}, tile.values, tile.stride,
      tile.output + first * tile.stride, tile.stride);
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
  for_each(team, tile.key_width * tile.block, [&](const int i) {
    tile.sum[i] *= tile.powers[count];
    if constexpr (Tile::splits_state) tile.before[i] *= tile.powers[count];
  });
}

/// void keep(team, rows, tile), of a rule that keeps something: a template, which no concept can ask for.
template <class Rule, class Tile>
inline constexpr bool keeps = requires(const Rule& rule, const Team& team, const KeptRows& rows, const Tile& tile) {
  rule.keep(team, rows, tile);
};

template <class Tile, class Tokens, class Rule>
KOKKOS_INLINE_FUNCTION void keep_rows(const Team& team, const Tokens& tokens, const Rule& rule, const ScanPart& part,
                                      std::int64_t first, int count, const Tile& tile) {
  if constexpr (keeps<Rule, Tile>) {
    const int begin = first < tokens.first ? static_cast<int>(tokens.first - first) : 0;
    rule.keep(team,
              KeptRows{part.batch, first + begin - tokens.first, part.head, begin, count, part.column, part.columns},
              tile);
  }
}

/// A step whose tokens see each other: one tile. goes_on: the state is needed after it.
template <class Tile, class Tokens, class Rule>
KOKKOS_INLINE_FUNCTION void scan_tile(const Team& team, const Tokens& tokens, const Rule& rule, const ScanPart& part,
                                      std::int64_t begin, std::int64_t end, bool goes_on, const Tile& tile) {
  using Real = typename Tile::Number;
  const auto count = static_cast<int>(end - begin);
  const int first = Tile::has_results ? first_wanted<Real>(tokens, begin) : 0;
  load_tokens(team, tokens, rule, part, begin, count, tile);
  if constexpr (Tile::has_results) load_queries(team, tokens, rule, part, begin, count, tile);
  if constexpr (Rule::corrects_state) transpose_keys(team, count, tile);
  if constexpr (Tile::has_scores) form_step_scores(team, first, count, tile);
  rule.prepare(team, tile, count);
  if constexpr (Tile::has_results) {
    if constexpr (decays<Rule>) decay_queries(team, count, tile);
    form_running_state(team, tile);
    apply_running_state(team, first, count, tile.block, LeftFactor<Real>{tile.transposed, 1, Tile::score_stride}, tile);
    add_own_step(team, first, count, tokens.sees_itself, tile);
    store_results(team, tokens, rule, part, begin, count, tile);
    keep_rows(team, tokens, rule, part, begin, count, tile);
  }
  if (!goes_on) return;
  if constexpr (decays<Rule>) decay_state(team, count, tile);
  add_to_state(team, count, tile);
}

/// By what the values of a step's tokens are multiplied.
template <class Tokens, class Rule>
KOKKOS_INLINE_FUNCTION auto share_of_step([[maybe_unused]] const Tokens& tokens, [[maybe_unused]] const Rule& rule,
                                          [[maybe_unused]] const ScanPart& part, [[maybe_unused]] std::int64_t begin,
                                          [[maybe_unused]] std::int64_t end) {
  using Real = typename Tokens::Number;
  if constexpr (averages<Rule>) {
    const std::int64_t origin = tokens.keys.origin;
    if (rule.averages_steps()) return share_of_token<Real>(tokens.keys.mask(part.batch), begin - origin, end - origin);
  }
  return Real(1);
}

/// A step whose tokens do not: a chunk, tile by tile, first what its tokens see and then what they add.
template <class Tile, class Tokens, class Rule>
KOKKOS_INLINE_FUNCTION void scan_chunk(const Team& team, const Tokens& tokens, const Rule& rule, const ScanPart& part,
                                       std::int64_t begin, std::int64_t end, const Tile& tile) {
  constexpr int size = Tile::tokens;
  const auto count_at = [&](std::int64_t first) { return end - first < size ? static_cast<int>(end - first) : size; };
  if constexpr (Tile::has_results) {
    // o_t = q_t S, of this rank's tokens
    form_running_state(team, tile);
    for (std::int64_t first = begin < tokens.first ? tokens.first : begin; first < end; first += size) {
      apply_running_state(team, 0, count_at(first), tile.block,
                          queries_from(team, tokens, part, first, count_at(first), tile), tile);
      store_results(team, tokens, rule, part, first, count_at(first), tile);
    }
  }

  // S += Σ_s k_sᵀ u_s, or their mean
  const auto share = share_of_step(tokens, rule, part, begin, end);
  for (std::int64_t first = begin; first < end; first += size) {
    load_tokens(team, tokens, rule, part, first, count_at(first), tile);
    if constexpr (averages<Rule>) {
      if (rule.averages_steps())
        for_each(team, count_at(first) * tile.stride, [&](const int i) { tile.values[i] *= share; });
    }
    add_to_state(team, count_at(first), tile);
  }
}

}  // namespace detail

}  // namespace bsbr::kernels
