// A running state that goes from rank to rank, in the order of the sequence.
#pragma once

#include <memory>
#include <vector>

#include "bsbr/sequence.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::parallel {

/// The ranks with tokens that come before and after this one in the sequence; −1 if there is none, or if this one has
/// none itself.
struct CarryRanks {
  explicit CarryRanks(const Sequence& sequence);
  int previous = -1, next = -1;
};

/// The state comes from the previous rank and goes to the next one in several messages, in the same order on all ranks:
/// a rank works on one while those around it work on others.
template <class Real>
class Carry {
 public:
  /// `before`: room for what comes; receives all messages from now on. `after`: what will go. `messages`: where in both
  /// the elements of each message are, the same on all ranks.
  Carry(const Execution& execution, const Sequence& sequence, const Array<Real*>& before, const Array<Real*>& after,
        std::vector<Segment> messages);

  /// Whether there is a previous rank.
  bool receives() const { return m_ranks.previous >= 0; }

  /// Returns when a message of the previous rank is there, if there is one.
  void wait_for(std::size_t message);

  /// What this rank passes on in a message is ready; it must stay as it is until finish().
  void send(std::size_t message);

  /// All messages have gone.
  void finish();

  /// By now.
  std::int64_t bytes_sent() const { return m_bytes_sent; }
  std::int64_t messages_sent() const { return m_messages_sent; }

 private:
  std::vector<Segment> only(int rank, std::int64_t count) const;

  Execution m_execution;
  Sequence m_sequence;
  CarryRanks m_ranks;
  Array<Real*> m_after;
  std::vector<Segment> m_messages;
  std::vector<std::unique_ptr<Exchange<Real>>> m_incoming, m_outgoing;
  std::int64_t m_bytes_sent = 0, m_messages_sent = 0;
};

}  // namespace bsbr::parallel
