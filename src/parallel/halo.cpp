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
    : HaloPlan(sequence, first_needed, [&](int rank) { return sequence.first_token_of(rank + 1); }) {}

HaloPlan::HaloPlan(const Sequence& sequence, const FirstNeeded& first_needed, const EndNeeded& end_needed)
    : m_own{sequence.first_token(), sequence.first_token() + sequence.local_tokens()} {
  const auto own_of = [&](int rank) { return Range{sequence.first_token_of(rank), sequence.first_token_of(rank + 1)}; };
  const auto needed_by = [&](int rank) {  // a rank without tokens needs none
    const Range own = own_of(rank);
    return own.begin == own.end ? own : Range{first_needed(rank), end_needed(rank)};
  };
  // Those of one rank's tokens that another needs.
  const auto common = [](Range needed, Range own) {
    const std::int64_t begin = std::max(needed.begin, own.begin);
    return Range{begin, std::max(begin, std::min(needed.end, own.end))};
  };
  m_first = needed_by(sequence.rank()).begin;
  m_last = needed_by(sequence.rank()).end;
  for (int rank = 0; rank < sequence.ranks(); ++rank) {
    const Range own = own_of(rank), needed = needed_by(rank);
    m_moves = m_moves || needed.begin < own.begin || needed.end > own.end;
    const Range from = common({m_first, m_last}, own), to = common(needed, m_own);
    const bool mine = rank == sequence.rank();
    m_from.push_back({from.begin - m_first, mine ? 0 : from.end - from.begin});
    m_to.push_back({to.begin - m_own.begin, mine ? 0 : to.end - to.begin});
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
  const auto own = Kokkos::subview(m_data, std::make_pair(own_offset(), own_offset() + m_plan.own_rows() * m_row));
  auto messages = std::make_unique<Exchange<Number>>(execution, comm, own, in_elements(m_plan.to(), m_row), m_data,
                                                     in_elements(m_plan.from(), m_row));
  messages->send();
  return messages;
}

template class Halo<float>;
template class Halo<double>;
template class Halo<std::uint8_t>;

}  // namespace bsbr::parallel
