#include "parallel/halo.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "bsbr/error.hpp"

namespace bsbr::parallel {
namespace {

std::vector<Slice> in_elements(std::vector<Slice> rows, std::int64_t row) {
  for (Slice& slice : rows) slice = {slice.offset * row, slice.count * row};
  return rows;
}

}  // namespace

HaloPlan::HaloPlan(const Sequence& sequence, const FirstNeeded& first_needed)
    : m_first(sequence.first_token()),
      m_own(sequence.first_token()),
      m_last(sequence.first_token() + sequence.local_tokens()) {
  const auto begin_of = [&](int rank) { return sequence.first_token_of(rank); };
  const auto needed_by = [&](int rank) {  // a rank without tokens needs none
    return begin_of(rank) == begin_of(rank + 1) ? begin_of(rank) : first_needed(rank);
  };
  m_first = needed_by(sequence.rank());
  for (int rank = 0; rank < sequence.ranks(); ++rank) {
    m_moves = m_moves || needed_by(rank) < begin_of(rank);
    // What this rank needs of the other's tokens, and what the other needs of this rank's.
    const std::int64_t from = std::max(m_first, begin_of(rank)), from_end = std::min(m_own, begin_of(rank + 1));
    m_from.push_back({from - m_first, std::max<std::int64_t>(0, from_end - from)});
    const std::int64_t to = std::max(m_own, needed_by(rank)), to_end = std::min(m_last, begin_of(rank));
    m_to.push_back({to - m_own, std::max<std::int64_t>(0, to_end - to)});
  }
}

template <class Number>
Halo<Number>::Halo(const HaloPlan& plan, std::int64_t row) : m_plan(plan), m_row(row) {
  try {
    m_data = Array<Number*>("bsbr::parallel::halo", plan.rows() * row);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for the rows of " + std::to_string(plan.rows()) + " tokens: " + error.what());
  }
}

template <class Number>
std::unique_ptr<Exchange<Number>> Halo<Number>::start(const Execution& execution, MPI_Comm comm) const {
  const auto others = Kokkos::subview(m_data, std::make_pair(std::int64_t{0}, own_offset()));
  const auto own = Kokkos::subview(m_data, std::make_pair(own_offset(), static_cast<std::int64_t>(m_data.extent(0))));
  auto messages = std::make_unique<Exchange<Number>>(execution, comm, own, in_elements(m_plan.to(), m_row), others,
                                                     in_elements(m_plan.from(), m_row));
  messages->send();
  return messages;
}

template class Halo<float>;
template class Halo<double>;
template class Halo<std::uint8_t>;

}  // namespace bsbr::parallel
