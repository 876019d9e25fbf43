// Sums of arrays over the leaves of all ranks, in the order of the tree: each rank gets a part of the sum.
//
// Of [elements] rank p owns the part Partition{elements, ranks, unit} of p. Which nodes a rank has formed of its leaves
// follows from Leaves, so that nothing but elements is sent: of each of its nodes the part of each owner. The owner
// joins them in the order of the tree, so that the sum has the same bits on any number of ranks.
//
// With k nodes a rank sends k·(elements − its own part). Where ranks and a row's leaves are powers of two, that is
// elements·(P − 1)/P of P ranks for each row of the batch: 4·elements·(P − 1)/P bytes in float.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bsbr/types.hpp"
#include "parallel/exchange.hpp"
#include "parallel/leaf_sums.hpp"

namespace bsbr::parallel {

/// One such sum at a time, of arrays of one size; may be used for many. Several at a time, on the same ranks, start in
/// the same order on all of them.
template <class Real>
class OrderedReduceScatter {
 public:
  /// For sums of so many elements over these leaves, of which `unit` have one owner. `comm` has the ranks that the
  /// leaves are numbered for. Allocates. Not collective. Throws MemoryError.
  OrderedReduceScatter(const Execution& execution, MPI_Comm comm, const Leaves& leaves, std::int64_t elements,
                       std::int64_t unit = 1);
  static std::int64_t bytes(const Leaves& leaves, std::int64_t elements, std::int64_t unit = 1);

  /// The part of the sum that each rank owns.
  const Partition& parts() const { return m_parts; }

  /// Sends the nodes of this rank, and returns at once. The kernels that form them need not be done; they stay as they
  /// are until wait(). Collective: a rank without leaves takes part, too. Throws Error if a sum is under way, or if
  /// `sums` is not of all leaves that this rank has, and of as many elements; CommunicationError.
  void start(const LeafSums<Real>& sums);

  /// Lets MPI go on with what is under way; call now and then while computing.
  void progress();

  /// This rank's part of the sum, in the order of `execution`; 0 where there are no leaves. It lasts until the next
  /// start(). Throws Error if none was started; CommunicationError.
  Array<Real*> wait();

  /// What the last sum has sent to other ranks, and in how many messages.
  std::int64_t bytes_sent() const { return m_exchange == nullptr ? 0 : m_exchange->bytes_sent(); }
  std::int64_t messages_sent() const { return m_exchange == nullptr ? 0 : m_exchange->messages_sent(); }

 private:
  /// Of a node that has been received: which one it is, and where this rank's part of it lies.
  struct Received {
    TreeNode place;
    Slice part;
  };

  Array<Real*> outgoing(const std::vector<typename LeafSums<Real>::Node>& nodes) const;

  Execution m_execution;
  MPI_Comm m_comm;
  OrderedTree m_tree;
  Partition m_parts;
  std::vector<TreeNode> m_nodes;     // that this rank forms
  std::vector<Received> m_received;  // of all ranks, in the order of the tree
  std::vector<Slice> m_to, m_from;   // by rank
  Array<Real*> m_outgoing;           // [rank][node][part], unless there is but one node
  Array<Real*> m_incoming;           // [rank][node][part]
  std::unique_ptr<Exchange<Real>> m_exchange;
  bool m_is_under_way = false;
};

/// Sends this rank's `part` of an array, one of `parts`, to all others: `whole` [elements] is complete after the wait()
/// of what is returned, and until then both are left alone. `part` may lie in its place there. Collective. A rank sends
/// (P − 1)·part elements. Throws CommunicationError.
template <class Real>
std::unique_ptr<Exchange<Real>> all_parts(const Execution& execution, MPI_Comm comm, const Array<Real*>& part,
                                          const Array<Real*>& whole, const Partition& parts);

}  // namespace bsbr::parallel
