#include "parallel/carry.hpp"

#include <utility>

namespace bsbr::parallel {
namespace {

template <class Real>
Array<Real*> part_of(const Array<Real*>& all, const Segment& part) {
  return Kokkos::subview(all, std::make_pair(part.offset, part.offset + part.count));
}

}  // namespace

Neighbours::Neighbours(const Sequence& sequence) {
  const auto has_tokens = [&](int rank) { return sequence.first_token_of(rank) < sequence.first_token_of(rank + 1); };
  if (!has_tokens(sequence.rank())) return;
  for (int rank = sequence.rank() - 1; rank >= 0 && before < 0; --rank) before = has_tokens(rank) ? rank : -1;
  for (int rank = sequence.rank() + 1; rank < sequence.ranks() && after < 0; ++rank) after = has_tokens(rank) ? rank : -1;
}

template <class Real>
Carry<Real>::Carry(const Execution& execution, const Sequence& sequence, const Array<Real*>& before, const Array<Real*>& after,
                   std::vector<Segment> parts)
    : m_execution(execution), m_sequence(sequence), m_neighbours(sequence), m_after(after), m_parts(std::move(parts)) {
  if (!receives()) return;
  for (const Segment& part : m_parts) {
    m_incoming.push_back(std::make_unique<Exchange<Real>>(execution, sequence.comm(), Array<Real*>(), only(-1, 0), part_of(before, part),
                                                          only(m_neighbours.before, part.count)));
  }
}

/// That many numbers for, or from, one rank, and nothing for the others.
template <class Real>
std::vector<Segment> Carry<Real>::only(int rank, std::int64_t count) const {
  std::vector<Segment> segments(static_cast<std::size_t>(m_sequence.ranks()));
  if (rank >= 0) segments[static_cast<std::size_t>(rank)].count = count;
  return segments;
}

template <class Real>
void Carry<Real>::wait_for(std::size_t part) {
  if (receives()) m_incoming[part]->wait();
}

template <class Real>
void Carry<Real>::send(std::size_t part) {
  if (m_neighbours.after < 0) return;
  m_outgoing.push_back(std::make_unique<Exchange<Real>>(m_execution, m_sequence.comm(), part_of(m_after, m_parts[part]),
                                                        only(m_neighbours.after, m_parts[part].count), Array<Real*>(), only(-1, 0)));
  m_outgoing.back()->send();
  m_bytes_sent += m_outgoing.back()->bytes_sent();
  m_messages_sent += m_outgoing.back()->messages_sent();
  for (const auto& message : m_outgoing) message->progress();
}

template <class Real>
void Carry<Real>::finish() {
  for (const auto& message : m_outgoing) message->wait();
}

template class Carry<float>;
template class Carry<double>;

}  // namespace bsbr::parallel
