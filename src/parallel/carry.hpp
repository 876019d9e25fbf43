// A running state that goes from rank to rank, in the order of the sequence.
#pragma once

#include <memory>
#include <vector>

#include "bsbr/sequence.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::parallel {

/// The ranks before and after this one that have tokens; −1 if there is none, or if this one has none itself.
struct Neighbours {
  explicit Neighbours(const Sequence& sequence);
  int before = -1, after = -1;
};

/// The state comes from the rank before and goes to the rank after part by part, in the same order on all ranks: a rank works on one part
/// while those around it work on others.
template <class Real>
class Carry {
 public:
  /// `before`: room for what comes; receives all parts from now on. `after`: what will go. Parts are the same on all ranks.
  Carry(const Execution& execution, const Sequence& sequence, const Array<Real*>& before, const Array<Real*>& after,
        std::vector<Segment> parts);

  /// Whether there is a rank before.
  bool receives() const { return m_neighbours.before >= 0; }

  /// Returns when a part of the rank before is there, if there is one.
  void wait_for(std::size_t part);

  /// This rank's part is ready to go; it must stay as it is until finish().
  void send(std::size_t part);

  /// All parts have gone.
  void finish();

  /// By now.
  std::int64_t bytes_sent() const { return m_bytes_sent; }
  std::int64_t messages_sent() const { return m_messages_sent; }

 private:
  std::vector<Segment> only(int rank, std::int64_t count) const;

  Execution m_execution;
  Sequence m_sequence;
  Neighbours m_neighbours;
  Array<Real*> m_after;
  std::vector<Segment> m_parts;
  std::vector<std::unique_ptr<Exchange<Real>>> m_incoming, m_outgoing;
  std::int64_t m_bytes_sent = 0, m_messages_sent = 0;
};

}  // namespace bsbr::parallel
