// The gradient of a model's weights, and its sum over the leaves that a rank has.
//
// A leaf is a range of tokens, at a fixed place in the batch. Leaves are joined by a tree that is a function of their
// number alone: a node of level k holds the leaves [i·2^k, (i + 1)·2^k), those of them that there are; it is its left
// half + its right half, or the left half as it stands where no leaf is in the right one. A rank takes its leaves in
// order and keeps the nodes that it cannot join any further: like the digits of a binary counter, at most one of each
// level where its leaves begin the batch, else at most two.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bsbr/weights.hpp"

namespace bsbr {

/// The gradient with respect to each weight, in the places of the weights.
template <class Real>
class Gradients : public WeightArray<Real> {
 public:
  /// All 0. Throws ConfigError if the configuration is not valid, MemoryError if there is not enough memory.
  explicit Gradients(const ModelConfig& config) : WeightArray<Real>(config, "gradients") {}

  void set_to_zero(const Execution& execution) const;
  /// this = this + right
  void add(const Execution& execution, const Gradients& right) const;
};

/// A node of the tree over `leaves` leaves; those of level 0 are the leaves.
struct LeafTreeNode {
  int level;
  std::int64_t index;

  auto operator<=>(const LeafTreeNode&) const = default;

  std::int64_t begin() const { return index << level; }
  bool is_root(std::int64_t leaves) const { return (std::int64_t{1} << level) >= leaves; }
  bool is_left() const { return index % 2 == 0; }
  LeafTreeNode sibling() const { return {level, index ^ 1}; }
  LeafTreeNode parent() const { return {level + 1, index / 2}; }
};

/// Sums the gradients of a rank's leaves in the order of the tree:
///
///     for each leaf: form its sum in leaf(execution), then join_leaf(execution)
template <class Real>
class GradientTree {
 public:
  struct Node {
    LeafTreeNode place;
    Gradients<Real> sum;
  };

  /// For the leaves from `first` on of `leaves` altogether. Allocates when it needs to.
  GradientTree(const ModelConfig& config, std::int64_t leaves, std::int64_t first = 0)
      : m_config(config), m_leaves(leaves), m_next(first) {}

  /// Where the next leaf's sum is to be formed: all 0. Throws MemoryError if there is not enough memory, Error if there
  /// is no leaf left.
  const Gradients<Real>& leaf(const Execution& execution);

  /// The sum of that leaf is complete.
  void join_leaf(const Execution& execution);

  /// What has been joined, from the first leaf to the last; a single one, the root, where the leaves were all.
  const std::vector<Node>& nodes() const { return m_nodes; }

 private:
  ModelConfig m_config;
  std::int64_t m_leaves, m_next;
  std::vector<Node> m_nodes;
  std::vector<Gradients<Real>> m_free;  // of nodes that have been joined; the last one is the next leaf's
};

}  // namespace bsbr
