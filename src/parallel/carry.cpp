#include "parallel/carry.hpp"

#include <utility>

namespace bsbr::parallel {
namespace {

template <class Real>
Array<Real*> range_of(const Array<Real*>& all, const Segment& segment) {
  return Kokkos::subview(all, std::make_pair(segment.offset, segment.offset + segment.count));
}

}  // namespace

CarryRanks::CarryRanks(const Sequence& sequence) {
  const auto has_tokens = [&](int rank) { return sequence.first_token_of(rank) < sequence.first_token_of(rank + 1); };
  if (!has_tokens(sequence.rank())) return;
  for (int rank = sequence.rank() - 1; rank >= 0 && previous < 0; --rank) previous = has_tokens(rank) ? rank : -1;
  for (int rank = sequence.rank() + 1; rank < sequence.ranks() && next < 0; ++rank) next = has_tokens(rank) ? rank : -1;
}

template <class Real>
Carry<Real>::Carry(const Execution& execution, const Sequence& sequence, const Array<Real*>& before,
                   const Array<Real*>& after, std::vector<Segment> messages)
    : m_execution(execution), m_sequence(sequence), m_ranks(sequence), m_after(after), m_messages(std::move(messages)) {
  if (!receives()) return;
  for (const Segment& segment : m_messages) {
    m_incoming.push_back(std::make_unique<Exchange<Real>>(execution, sequence.comm(), Array<Real*>(), only(-1, 0),
                                                          range_of(before, segment),
                                                          only(m_ranks.previous, segment.count)));
  }
}

/// That many elements for, or from, one rank, and nothing for the others.
template <class Real>
std::vector<Segment> Carry<Real>::only(int rank, std::int64_t count) const {
  std::vector<Segment> segments(static_cast<std::size_t>(m_sequence.ranks()));
  if (rank >= 0) segments[static_cast<std::size_t>(rank)].count = count;
  return segments;
}

template <class Real>
void Carry<Real>::wait_for(std::size_t message) {
  if (receives()) m_incoming[message]->wait();
}

template <class Real>
void Carry<Real>::send(std::size_t message) {
  if (m_ranks.next < 0) return;
  const Segment& segment = m_messages[message];
  m_outgoing.push_back(std::make_unique<Exchange<Real>>(m_execution, m_sequence.comm(), range_of(m_after, segment),
                                                        only(m_ranks.next, segment.count), Array<Real*>(),
                                                        only(-1, 0)));
  m_outgoing.back()->send();
  m_bytes_sent += m_outgoing.back()->bytes_sent();
  m_messages_sent += m_outgoing.back()->messages_sent();
  for (const auto& sent : m_outgoing) sent->progress();
}

template <class Real>
void Carry<Real>::finish() {
  for (const auto& message : m_outgoing) message->wait();
}

template class Carry<float>;
template class Carry<double>;

}  // namespace bsbr::parallel
