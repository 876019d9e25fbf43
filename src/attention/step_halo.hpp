// Rows of tokens that share a step of a scan with this rank's tokens, and which other ranks have.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "attention/attention.hpp"
#include "attention/overlap.hpp"
#include "bsbr/sequence.hpp"
#include "kernels/rows.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::attention {

namespace detail {

/// Copies own [batch, token, width] to rows [token][batch][width].
template <class Number>
void pack_by_token(const Execution& execution, const Strided<const Number***>& own, Number* rows) {
  const auto batch = static_cast<std::int64_t>(own.extent(0)), tokens = static_cast<std::int64_t>(own.extent(1)),
             width = static_cast<std::int64_t>(own.extent(2));
  const auto copies = KOKKOS_LAMBDA(const std::int64_t i) {
    return kernels::RowCopies<Number, 1>{{&own(i % batch, i / batch, 0)}, {rows + i * width}};
  };
  kernels::copy_rows(execution, "bsbr::attention::pack_step_halo", tokens * batch, width, copies);
}

}  // namespace detail

/// This rank's rows, and around them those of the rest of the steps that its first and its last token are in: a
/// gradient's scans come to a step from either side. If no rank's border lies within a step, uses rows in place and
/// allocates nothing.
template <class Number>
class StepHalo {
 public:
  /// width: elements of a token of one sequence.
  StepHalo(const Sequence& sequence, std::int64_t step, std::int64_t width)
      : m_sequence(sequence), m_step(step), m_width(width) {
    if (moves_anything(sequence, step))
      m_rows = allocate<Number>("step_halo", size(needed_by(sequence.rank())) * row());
  }

  static std::int64_t bytes(const Sequence& sequence, std::int64_t step, std::int64_t width) {
    if (!moves_anything(sequence, step)) return 0;
    return size(StepHalo::needed_by(sequence, step, sequence.rank())) * sequence.batch() * width *
           static_cast<std::int64_t>(sizeof(Number));
  }

  /// The token of the first row.
  std::int64_t first_token() const { return m_rows ? needed_by(m_sequence.rank()).first : m_sequence.first_token(); }

  /// own: [batch, local tokens, width]. → [batch, tokens from first_token() on, width]. Collective.
  Strided<const Number***> fetch(const Execution& execution, const Strided<const Number***>& own,
                                 Profile* profile) const {
    if (!m_rows) return own;
    const Phase phase(execution, profile, "exchange");
    const Range mine = own_of(m_sequence.rank()), needed = needed_by(m_sequence.rank());
    detail::pack_by_token(execution, own, m_rows->data() + (mine.first - needed.first) * row());
    std::vector<parallel::Slice> to, from;
    for (int rank = 0; rank < m_sequence.ranks(); ++rank) {
      const bool other = rank != m_sequence.rank();
      to.push_back(slice(other ? common(needed_by(rank), mine) : Range{needed.first, needed.first}, needed.first));
      from.push_back(slice(other ? common(needed, own_of(rank)) : Range{needed.first, needed.first}, needed.first));
    }
    parallel::Exchange<Number> messages(execution, m_sequence.comm(), *m_rows, to, *m_rows, from);
    messages.send();
    finish(messages, "halo", profile);
    const auto batch = static_cast<std::size_t>(m_sequence.batch()), tokens = static_cast<std::size_t>(size(needed)),
               width = static_cast<std::size_t>(m_width);
    return Strided<const Number***>(m_rows->data(),
                                    Kokkos::LayoutStride(batch, width, tokens, batch * width, width, 1));
  }

 private:
  using Range = std::pair<std::int64_t, std::int64_t>;

  static std::int64_t size(const Range& range) { return range.second - range.first; }
  static Range common(const Range& a, const Range& b) {
    const std::int64_t first = std::max(a.first, b.first);
    return {first, std::max(first, std::min(a.second, b.second))};
  }

  static Range own_of(const Sequence& sequence, int rank) {
    return {sequence.first_token_of(rank), sequence.first_token_of(rank + 1)};
  }
  static Range needed_by(const Sequence& sequence, std::int64_t step, int rank) {
    const Range own = own_of(sequence, rank);
    if (size(own) == 0) return own;
    return {own.first / step * step, std::min(sequence.end(), (own.second + step - 1) / step * step)};
  }
  static bool moves_anything(const Sequence& sequence, std::int64_t step) {
    for (int rank = 0; rank < sequence.ranks(); ++rank) {
      if (needed_by(sequence, step, rank) != own_of(sequence, rank)) return true;
    }
    return false;
  }
  Range own_of(int rank) const { return own_of(m_sequence, rank); }
  Range needed_by(int rank) const { return needed_by(m_sequence, m_step, rank); }

  std::int64_t row() const { return m_sequence.batch() * m_width; }
  parallel::Slice slice(const Range& range, std::int64_t origin) const {
    return {(range.first - origin) * row(), size(range) * row()};
  }

  Sequence m_sequence;
  std::int64_t m_step, m_width;
  std::optional<Array<Number*>> m_rows;  // [token][batch][width]
};

}  // namespace bsbr::attention
