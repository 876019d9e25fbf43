// What a rule of a scan is: how an architecture maps queries and keys, what is added to the state, and what becomes of
// the results (state_scan.hpp).
#pragma once

#include <Kokkos_Core.hpp>
#include <concepts>
#include <cstdint>

#include "kernels/tile_product.hpp"

namespace bsbr::kernels {

/// Stands for a function that says which rows of a tile are wanted.
struct EveryRow {
  KOKKOS_INLINE_FUNCTION bool operator()(int) const { return true; }
};

// A rule says what an architecture does; it is copied to the device. One concept for each of its members, so that the
// compiler names the one that is missing.

/// Whether a token sees the earlier ones of its step, and whether u depends on the state before the step: then A is a
/// matrix, and prepare() is given k_s·k_t.
template <class Rule>
concept SaysWhatItSees = requires {
  { Rule::sees_own_step } -> std::convertible_to<bool>;
  { Rule::corrects_state } -> std::convertible_to<bool>;
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

/// bool averages_steps(), of a rule that has it: whether what a step adds to the state is divided by the number of its
/// real tokens. Tokens must not see their own step.
template <class Rule>
inline constexpr bool averages = requires(const Rule& rule) {
  { rule.averages_steps() } -> std::same_as<bool>;
};

/// What a rule says of its gradient (scan_gradient.hpp), if it has one: bool maps(), whether it maps queries and keys.
///
/// One that does has void map_gradient(team, width, row, gradient): `gradient`, of a mapped row, becomes that of `row`.
/// One with extra columns has void store_gradient(team, batch, token, head, width, output_gradient, output, row): `row`
/// becomes the gradient of what store() was given, of one head. What a forward has to keep for that, or of the u that
/// correct a state, the template void keep(team, KeptRows, tile) puts into the array of keep_in(array), [batch, tokens,
/// kept_elements(config)].
template <class Rule>
concept HasGradient = requires(const Rule& rule) {
  { rule.maps() } -> std::same_as<bool>;
};
template <class Rule>
inline constexpr bool maps_gradient = requires {
  &Rule::map_gradient;
};
template <class Rule>
inline constexpr bool stores_gradient = requires {
  &Rule::store_gradient;
};

}  // namespace bsbr::kernels
