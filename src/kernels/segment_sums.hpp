// Segments of a scan, put together: each is an affine map of the state before it, S' = A S + T (state_scan.hpp).
//
//     left, then right:   T = A_right T_left + T_right,   A = A_right A_left
//
// With a state S for T_left that is the state behind `right`. In memory the T of all parts come first, then, where A is
// a matrix, the A of all parts: the columns of A are cut into parts as those of T are.
#pragma once

#include <Kokkos_Core.hpp>
#include <string>

#include "kernels/state_scan.hpp"

namespace bsbr::kernels {

/// Elements of T and A of one segment.
template <class Rule>
std::int64_t segment_elements(const ScanParts& parts) {
  return (Rule::corrects_state ? 2 : 1) * parts.total();
}

/// What stands on the left of a composition.
enum class LeftOperand { segment, state };

/// `count` compositions, of left and right that lie so many elements apart.
template <class Real>
struct Compositions {
  const Real* left;
  std::int64_t left_stride;
  Real* right;  // takes the result
  std::int64_t right_stride, count;
  std::int64_t tokens;  // of each right
};

namespace detail {

/// base^exponent by repeated squaring.
template <class Real>
KOKKOS_INLINE_FUNCTION Real power(Real base, std::int64_t exponent) {
  Real result = 1;
  for (; exponent > 0; exponent /= 2, base *= base) {
    if (exponent % 2 != 0) result *= base;
  }
  return result;
}

/// γ^tokens of a head, or 1 where states do not decay.
template <class Real, class Rule>
KOKKOS_INLINE_FUNCTION Real left_factor([[maybe_unused]] const Rule& rule, [[maybe_unused]] std::int64_t head,
                                        [[maybe_unused]] std::int64_t tokens) {
  if constexpr (decays<Rule>) {
    return power(Real(rule.decay(head)), tokens);
  } else {
    return 1;
  }
}

/// Scratch of one team, that of a head.
template <class Real>
struct CompositionTile {
  Real* matrix;   // [key width, padded key width]: A_right
  Real* left;     // [key width, padded columns]: of one part
  Real* product;  // [key width, padded columns]

  KOKKOS_INLINE_FUNCTION static std::int64_t bytes(int width, int columns) {
    return scratch_bytes<Real>(std::int64_t{width} * padded<Real>(width)) +
           2 * scratch_bytes<Real>(std::int64_t{width} * padded<Real>(columns));
  }

  KOKKOS_INLINE_FUNCTION CompositionTile(Scratch& scratch, int width, int columns)
      : matrix(scratch.take<Real>(std::int64_t{width} * padded<Real>(width))),
        left(scratch.take<Real>(std::int64_t{width} * padded<Real>(columns))),
        product(scratch.take<Real>(std::int64_t{width} * padded<Real>(columns))) {}
};

/// tile.matrix = A of a head, whose parts begin at `matrix`.
template <class Real>
KOKKOS_INLINE_FUNCTION void load_matrix(const Team& team, const ScanParts& parts, const Real* matrix,
                                        const CompositionTile<Real>& tile) {
  const int stride = padded<Real>(parts.width);
  for (int block = 0; block < parts.blocks(); ++block) {
    load_block(team, matrix + block * parts.elements(), parts.width, parts.stored(),
               tile.matrix + block * parts.columns(), parts.columns_of(block), stride);
  }
}

/// target = A_right left (+ target), of one part [key width, columns]
template <bool add, class Real>
KOKKOS_INLINE_FUNCTION void multiply_part(const Team& team, const ScanParts& parts, const Real* left, Real* target,
                                          const CompositionTile<Real>& tile) {
  const int width = parts.width, stored = parts.stored(), stride = padded<Real>(stored);
  load_block(team, left, width, stored, tile.left, stride, stride);
  form_product(team, width, stored, width, LeftFactor<Real>{tile.matrix, padded<Real>(width), 1}, tile.left, stride,
               tile.product, stride);
  for_each_in_rows(team, width, stored, [&](const int row) {
    const Real* from = tile.product + row * stride;
    Real* to = target + std::int64_t{row} * stored;
    return [=](const int i) { to[i] = add ? from[i] + to[i] : from[i]; };
  });
}

}  // namespace detail

/// T_right ← A_right T_left + T_right of matrices, and A_right ← A_right A_left where left is a segment. A team for
/// each head of each composition.
template <LeftOperand operand, class Real>
void compose_matrices(const Execution& execution, const std::string& label, const ScanParts& parts,
                      const Compositions<Real>& work) {
  using Tile = detail::CompositionTile<Real>;
  const std::int64_t heads = parts.batch * parts.heads, bytes = Tile::bytes(parts.width, parts.stored());
  Kokkos::parallel_for(
      label, team_policy(execution, work.count * heads, bytes), KOKKOS_LAMBDA(const TeamMember& member) {
        const std::int64_t i = member.league_rank() / heads, head = member.league_rank() % heads;
        const std::int64_t first = head * parts.blocks() * parts.elements();
        const Real* left = work.left + i * work.left_stride + first;
        Real* right = work.right + i * work.right_stride + first;
        Scratch scratch(member, bytes);
        const Tile tile(scratch, parts.width, parts.stored());
        const auto team = as_team(member);
        detail::load_matrix(team, parts, right + parts.total(), tile);
        for (std::int64_t at = 0; at < parts.blocks() * parts.elements(); at += parts.elements()) {
          detail::multiply_part<true>(team, parts, left + at, right + at, tile);
          if constexpr (operand == LeftOperand::segment)
            detail::multiply_part<false>(team, parts, left + parts.total() + at, right + parts.total() + at, tile);
        }
      });
}

/// T_right ← γ^tokens T_left + T_right. A team for each part of each composition.
template <class Real, class Rule>
void add_segments(const Execution& execution, const std::string& label, const ScanParts& parts, const Rule& rule,
                  const Compositions<Real>& work) {
  Kokkos::parallel_for(
      label, team_policy(execution, work.count * parts.count(), 0), KOKKOS_LAMBDA(const TeamMember& member) {
        const std::int64_t i = member.league_rank() / parts.count(), part = member.league_rank() % parts.count();
        const Real* left = work.left + i * work.left_stride + part * parts.elements();
        Real* right = work.right + i * work.right_stride + part * parts.elements();
        const auto factor = detail::left_factor<Real>(rule, part / parts.blocks() % parts.heads, work.tokens);
        for_each(as_team(member), static_cast<int>(parts.elements()),
                 [&](const int k) { right[k] = factor * left[k] + right[k]; });
      });
}

/// Composes segments, or a state and segments, in the place of the right ones.
template <LeftOperand operand, class Real, class Rule>
void compose(const Execution& execution, const std::string& label, const ScanParts& parts, const Rule& rule,
             const Compositions<Real>& work) {
  if (work.count <= 0) return;
  if constexpr (Rule::corrects_state) {
    compose_matrices<operand>(execution, label, parts, work);
  } else {
    add_segments(execution, label, parts, rule, work);
  }
}

/// Scratch of a team that composes segments, in bytes.
template <class Real, class Rule>
std::int64_t composition_scratch_bytes(const Rule& rule, int width) {
  if (!Rule::corrects_state) return 0;
  return detail::CompositionTile<Real>::bytes(width, ScanParts{1, 1, width, rule.extra_columns()}.stored());
}

}  // namespace bsbr::kernels
