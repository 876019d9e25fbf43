// The sum of some weights' gradients over the leaves of all ranks, and how it reaches all ranks while they go on
// computing.
#pragma once

#include <cstdint>
#include <memory>

#include "attention/overlap.hpp"
#include "bsbr/profile.hpp"
#include "parallel/leaf_sums.hpp"
#include "parallel/reduce_scatter.hpp"

namespace bsbr {

/// One sum after the other, each in three steps, with work of other kinds between them. Several sums may be under way:
/// all ranks take their steps in the same order.
template <class Real>
class GradientSum {
 public:
  /// Of so many elements. Throws MemoryError.
  GradientSum(const Execution& execution, const Sequence& sequence, const parallel::Leaves& leaves,
              std::int64_t elements)
      : m_execution(execution),
        m_comm(sequence.comm()),
        m_leaves(execution, leaves, elements),
        m_ranks(execution, sequence, elements),
        m_total("bsbr::gradient::total", static_cast<std::size_t>(elements)) {}

  static std::int64_t bytes(const Sequence& sequence, const parallel::Leaves& leaves, std::int64_t elements) {
    return parallel::LeafSums<Real>::bytes(leaves, elements) +
           parallel::OrderedReduceScatter<Real>::bytes(sequence, elements) +
           elements * static_cast<std::int64_t>(sizeof(Real));
  }

  /// Where this rank's leaves are summed up: from finish() on until start().
  parallel::LeafSums<Real>& leaves() { return m_leaves; }

  /// All leaves have been summed up: their nodes go to the ranks that own the parts. Collective, like the next two.
  void start(Profile* profile) {
    const Phase phase(m_execution, profile, "exchange");
    m_ranks.start(m_leaves);
  }

  /// Each rank joins its part, which goes to all others.
  void share(Profile* profile) {
    const Phase phase(m_execution, profile, "exchange");
    const Array<Real*> part = m_ranks.wait();
    if (profile != nullptr) profile->sent("gradients", m_ranks.bytes_sent(), m_ranks.messages_sent());
    m_parts = parallel::all_parts(m_execution, m_comm, part, m_total);
  }

  /// The sum, [elements]; it lasts until the next share().
  const Array<Real*>& finish(Profile* profile) {
    const Phase phase(m_execution, profile, "exchange");
    attention::finish(*m_parts, "gradients", profile);
    m_parts.reset();
    m_leaves.clear();
    return m_total;
  }

 private:
  Execution m_execution;
  MPI_Comm m_comm;
  parallel::LeafSums<Real> m_leaves;
  parallel::OrderedReduceScatter<Real> m_ranks;
  Array<Real*> m_total;
  std::unique_ptr<parallel::Exchange<Real>> m_parts;  // on their way
};

}  // namespace bsbr
