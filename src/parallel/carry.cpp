#include "parallel/carry.hpp"

#include <vector>

namespace bsbr::parallel {
namespace {

/// That many numbers for, or from, one rank, and nothing for the others.
std::vector<Segment> only(const Sequence& sequence, int rank, std::int64_t count) {
  std::vector<Segment> segments(static_cast<std::size_t>(sequence.ranks()));
  if (rank >= 0) segments[static_cast<std::size_t>(rank)].count = count;
  return segments;
}

}  // namespace

Neighbours::Neighbours(const Sequence& sequence) {
  const auto has_tokens = [&](int rank) { return sequence.first_token_of(rank) < sequence.first_token_of(rank + 1); };
  if (!has_tokens(sequence.rank())) return;
  for (int rank = sequence.rank() - 1; rank >= 0 && before < 0; --rank) before = has_tokens(rank) ? rank : -1;
  for (int rank = sequence.rank() + 1; rank < sequence.ranks() && after < 0; ++rank) after = has_tokens(rank) ? rank : -1;
}

template <class Real>
bool receive_state(const Execution& execution, const Sequence& sequence, const Array<Real*>& state) {
  const int before = Neighbours(sequence).before;
  if (before < 0) return false;
  Exchange<Real> message(execution, sequence.comm(), Array<const Real*>(), only(sequence, -1, 0), state,
                         only(sequence, before, static_cast<std::int64_t>(state.extent(0))));
  message.wait();
  return true;
}

template <class Real>
void send_state(const Execution& execution, const Sequence& sequence, const Array<const Real*>& state, Profile* profile) {
  const int after = Neighbours(sequence).after;
  if (after < 0) return;
  Exchange<Real> message(execution, sequence.comm(), state, only(sequence, after, static_cast<std::int64_t>(state.extent(0))),
                         Array<Real*>(), only(sequence, -1, 0));
  message.wait();
  if (profile != nullptr) profile->sent("state", message.bytes_sent());
}

template bool receive_state<float>(const Execution&, const Sequence&, const Array<float*>&);
template bool receive_state<double>(const Execution&, const Sequence&, const Array<double*>&);
template void send_state<float>(const Execution&, const Sequence&, const Array<const float*>&, Profile*);
template void send_state<double>(const Execution&, const Sequence&, const Array<const double*>&, Profile*);

}  // namespace bsbr::parallel
