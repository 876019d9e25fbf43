// Sums of arrays over the leaves of one rank, as of the gradients of a layer's parameters, in the order of the tree.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/types.hpp"
#include "parallel/leaves.hpp"

namespace bsbr::parallel {

/// Goes through the leaves that this rank has, in order, and is left with the nodes that it cannot join any further:
///
///     for each leaf: add its part of the sum to leaf(), then join(leaf)
///
/// Two halves of a node are joined at once, and the right one's array is used again. So n leaves that are the whole
/// batch take log₂ n + 1 arrays; those of a rank in the middle of it up to twice as many, for each row.
template <class Real>
class LeafSums {
 public:
  struct Join {
    Execution execution;
    std::vector<Array<Real*>>* free;

    /// left += right, whose memory is free then
    void operator()(const Array<Real*>& left, Array<Real*> right) const;
  };
  using Sum = OrderedSum<Array<Real*>, Join>;
  using Node = typename Sum::Node;

  /// Sums of arrays of so many elements. Allocates all of them. Not collective. Throws MemoryError.
  LeafSums(const Execution& execution, const Leaves& leaves, std::int64_t elements);
  LeafSums(const LeafSums&) = delete;
  LeafSums& operator=(const LeafSums&) = delete;

  std::int64_t elements() const { return m_elements; }

  /// Arrays that the sums of a rank's leaves take.
  static std::int64_t arrays(const Leaves& leaves);
  static std::int64_t bytes(const Leaves& leaves, std::int64_t elements) {
    return arrays(leaves) * elements * static_cast<std::int64_t>(sizeof(Real));
  }

  /// Where the next leaf's sum is to be formed, in the order of `execution`: all 0, [elements]. Throws Error if this
  /// rank has no leaf left.
  const Array<Real*>& leaf();

  /// That sum is complete, and is the one of this leaf, by its place among all. Throws Error if none has been formed,
  /// or if the leaf is not behind the one before.
  void join(std::int64_t leaf);

  /// What has been joined, in the order of the leaves.
  const std::vector<Node>& nodes() const { return m_sum.nodes(); }

  /// Forgets all leaves: for another batch. The arrays of nodes() are used anew.
  void clear();

 private:
  std::int64_t m_elements, m_next = 0;
  bool m_is_formed = false;
  std::vector<Array<Real*>> m_free;  // the last one is the next leaf's
  Join m_join;
  Sum m_sum;
};

}  // namespace bsbr::parallel
