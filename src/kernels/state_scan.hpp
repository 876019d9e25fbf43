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
// A sequence is cut into segments of steps, and a segment is an affine map of the state before it, S' = A S + T:
//
//     T = Σ k_sᵀ u_s as it is if S = 0;   A = 1, γⁿ, or for delta_net a matrix [key width, key width]
//
// So the sums T, and A, of all segments are formed at once; segment_sums.hpp composes them to the states before the
// segments; then the results of all segments are formed at once. The columns of S do not depend on each other either:
// teams share out segments, batch, heads and blocks of columns. Steps and segments are cut at global positions, so that
// results do not depend on the ranks.
#pragma once

#include <Kokkos_Core.hpp>
#include <string>

#include "kernels/scan_tile.hpp"

namespace bsbr::kernels {

/// The segments of a launch: segment i of them has the tokens [begin_of(i), end_of(i)). The first may have begun, and
/// the last may go on, on other ranks.
struct ScanSegments {
  std::int64_t first, count;  // segments of the sequence
  std::int64_t begin, end;    // tokens; begin: of a step
  std::int64_t tokens;        // of a whole segment

  KOKKOS_INLINE_FUNCTION std::int64_t begin_of(std::int64_t i) const {
    return (first + i) * tokens > begin ? (first + i) * tokens : begin;
  }
  KOKKOS_INLINE_FUNCTION std::int64_t end_of(std::int64_t i) const {
    return (first + i + 1) * tokens < end ? (first + i + 1) * tokens : end;
  }
};

/// States and sums of the segments of a launch, of all parts. A null pointer: zeros (of A: the identity), or not
/// wanted.
template <class Real>
struct ScanMemory {
  const Real* first_before = nullptr;  // the state before the first segment, or where it has begun, that at `begin`
  const Real* before = nullptr;        // the states before the other segments, `stride` elements apart
  const Real* first_sum = nullptr;     // what has been summed of the first segment before `begin`
  Real* sums = nullptr;                // T of all parts and then A of all parts, `stride` elements apart
  Real* after = nullptr;               // of the last segment, what is first_before at tokens.end()
  std::int64_t stride = 0;
};

namespace detail {

/// The tokens [begin, end) of one segment.
template <class Tile, class Tokens, class Real, class Rule>
KOKKOS_INLINE_FUNCTION void scan_part(const Team& team, const Tokens& tokens, const Rule& rule, const ScanPart& part,
                                      std::int64_t begin, std::int64_t end, const PartMemory<Real>& memory,
                                      const Tile& tile) {
  start_segment(team, part, memory, tile);
  form_powers(team, rule, part.head, tile);
  for (std::int64_t first = begin, last = begin; first < end; first = last) {
    if (first == tokens.end()) save_after(team, part, memory, tile);
    last = (first / tokens.step + 1) * tokens.step;  // the first step of all may have no beginning
    if (last > end) last = end;
    if constexpr (Rule::sees_own_step) {
      const bool goes_on = last < end || end == tokens.end() || memory.sum != nullptr;
      scan_tile(team, tokens, rule, part, first, last, goes_on, tile);
    } else {
      static_assert(!decays<Rule> && !Rule::corrects_state, "only the state of tokens that see their own step may");
      scan_chunk(team, tokens, rule, part, first, last, tile);
    }
  }
  if (end == tokens.end()) save_after(team, part, memory, tile);
  save_sums(team, part, memory, tile);
}

}  // namespace detail

/// Segments that one rank alone takes at a time: one, in one pass, where the parts of the state occupy nearly all
/// threads; else so many that sums, and results, do.
inline std::int64_t segments_at_once(const Execution& execution, const ScanParts& parts) {
  const std::int64_t teams = concurrent_teams(execution), count = parts.count();
  if (count == 0) return 1;
  const std::int64_t turns = (count + teams - 1) / teams * teams;  // for parts, of all threads
  if (100 * (turns - count) <= tuning::idle_percent * turns) return 1;
  return (tuning::teams_per_thread * teams + count - 1) / count;
}

/// scan_segments() with tiles of a division.
template <ScanPass pass, int division, class Tokens, class Rule>
void scan_segments_of(const Execution& execution, const std::string& label, const Tokens& tokens, const Rule& rule,
                      const ScanSegments& segments, const ScanMemory<typename Tokens::Number>& memory) {
  using Real = typename Tokens::Number;
  using Tile = ScanTile<Real, Rule, division, pass>;
  const ScanParts parts = parts_of(tokens, rule);
  const std::int64_t bytes = Tile::bytes(parts.key_width(), parts.stored());
  Kokkos::parallel_for(
      label, team_policy(execution, segments.count * parts.count(), bytes), KOKKOS_LAMBDA(const TeamMember& member) {
        const std::int64_t i = member.league_rank() / parts.count(), index = member.league_rank() % parts.count();
        const std::int64_t head = index / parts.blocks(), at = index * parts.elements();
        const int block = static_cast<int>(index % parts.blocks());
        const detail::ScanPart part{head / parts.heads, head % parts.heads, block * parts.columns(),
                                    parts.columns_of(block), parts.stored()};
        const Real* others = memory.before == nullptr ? nullptr : memory.before + (i - 1) * memory.stride;
        const Real* before = i == 0 ? memory.first_before : others;
        const bool goes_on = i == 0 && memory.first_sum != nullptr, saves = memory.sums != nullptr;
        const Real* first_sum = goes_on ? memory.first_sum + at : nullptr;
        Real* sum = saves ? memory.sums + i * memory.stride + at : nullptr;
        const bool is_last = i == segments.count - 1 && memory.after != nullptr;
        const detail::PartMemory<Real> of_part{.before = before == nullptr ? nullptr : before + at,
                                               .first_sum = first_sum,
                                               .first_matrix = goes_on ? first_sum + parts.total() : nullptr,
                                               .sum = sum,
                                               .matrix = saves ? sum + parts.total() : nullptr,
                                               .after = is_last ? memory.after + at : nullptr};
        Scratch scratch(member, bytes);
        const Tile tile(scratch, parts.key_width(), parts.stored());
        detail::scan_part(as_team(member), tokens, rule, part, segments.begin_of(i), segments.end_of(i), of_part, tile);
      });
}

/// The sums, or the results, or both, of some segments. One launch, a team for each segment and part. Tokens:
/// ScanTokens, or those of a gradient (scan_gradient.hpp).
template <ScanPass pass, class Tokens, class Rule>
void scan_segments(const Execution& execution, const std::string& label, const Tokens& tokens, const Rule& rule,
                   const ScanSegments& segments, const ScanMemory<typename Tokens::Number>& memory) {
  if (segments.count <= 0) return;
  with_scan_tile<typename Tokens::Number, Rule>(parts_of(tokens, rule), [&](auto division) {
    scan_segments_of<pass, division>(execution, label, tokens, rule, segments, memory);
  });
}

}  // namespace bsbr::kernels
