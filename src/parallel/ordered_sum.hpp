// Sums over what ranks share out, in an order that is a function of the number of leaves alone.
//
// Leaves are numbered over all ranks: the tokens of a batch, row after row, or runs of tokens that no rank cuts. They
// are joined by a binary tree. Its node of level k is the sum of 2^k leaves from a multiple of 2^k on, as far as there
// are leaves:
//
//     node(first, k) = node(first, k − 1) + node(first + 2^(k−1), k − 1),  or the left one as it is, where the right
//     one
//                                                                          has no leaf
//
// OrderedTree says which nodes a rank can form by itself and which two are joined; OrderedSum joins numbers, or arrays,
// as they come; sum_of_ranks moves what is left to be joined. A sum of arrays that are large, such as gradients, has
// the same order with another movement: each rank owns a part of every array, and is sent that part of all nodes.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bsbr/error.hpp"

namespace bsbr::parallel {

/// A node, by its first leaf and its level: 2^level leaves, as far as there are leaves.
struct TreeNode {
  std::int64_t first = 0;
  int level = 0;

  bool operator==(const TreeNode&) const = default;
};

/// Which nodes there are over so many leaves. A node without a right neighbour to be joined to is its own parent's sum,
/// and goes by the parent's name: raised().
class OrderedTree {
 public:
  explicit OrderedTree(std::int64_t leaves);

  std::int64_t leaves() const { return m_leaves; }
  /// The node of all leaves. There is none if there is no leaf.
  TreeNode root() const { return {0, m_levels}; }

  /// The leaf behind a node's last one.
  std::int64_t end(TreeNode node) const;

  /// The highest node that is the same sum.
  TreeNode raised(TreeNode node) const;

  /// Whether the two are the halves of a node; its name is raised({left.first, left.level + 1}).
  bool are_halves(TreeNode left, TreeNode right) const;

  /// The highest nodes of the leaves [begin, last), in order: what the rank that has these leaves can form, 2·log₂ of
  /// their number at most.
  std::vector<TreeNode> nodes_of(std::int64_t begin, std::int64_t last) const;

 private:
  std::int64_t m_leaves;
  int m_levels;
};

/// Joins the nodes of a tree that it is given, in the order of their leaves. Two halves are joined at once, so that no
/// more is kept than one value of each level, and what others have to join.
/// `Join`: join(Value& left, Value&& right) makes of left the sum of both.
template <class Value, class Join>
class OrderedSum {
 public:
  struct Node {
    TreeNode place;
    Value value;
  };

  explicit OrderedSum(OrderedTree tree, Join join = {}) : m_tree(tree), m_join(std::move(join)) {}

  const OrderedTree& tree() const { return m_tree; }

  /// Adds a node whose leaves are all behind those that were added before.
  void add(TreeNode place, Value value) {
    m_nodes.push_back({m_tree.raised(place), std::move(value)});
    while (m_nodes.size() > 1 && m_tree.are_halves(m_nodes.end()[-2].place, m_nodes.back().place)) {
      Node& left = m_nodes.end()[-2];
      m_join(left.value, std::move(m_nodes.back().value));
      left.place = m_tree.raised(TreeNode{left.place.first, left.place.level + 1});
      m_nodes.pop_back();
    }
  }

  /// Adds one leaf.
  void add(std::int64_t leaf, Value value) { add(TreeNode{leaf, 0}, std::move(value)); }

  /// What is left to be joined with the nodes of others, in order.
  const std::vector<Node>& nodes() const { return m_nodes; }

  /// The sum of all leaves. Throws Error unless all of them have been added.
  const Value& total() const {
    if (m_nodes.size() != 1 || m_nodes.front().place != m_tree.root())
      throw Error("an ordered sum of " + std::to_string(m_tree.leaves()) + " leaves is not complete");
    return m_nodes.front().value;
  }

 private:
  OrderedTree m_tree;
  Join m_join;
  std::vector<Node> m_nodes;
};

struct Add {
  void operator()(double& left, double right) const { left += right; }
};
using OrderedSumOfDoubles = OrderedSum<double, Add>;

/// The sum of all leaves, of which each is on one rank; 0 if there is none. Collective; all ranks get the same bits,
/// whichever has which leaves. All pass sums of the same tree.
double sum_of_ranks(const OrderedSumOfDoubles& mine, MPI_Comm comm);

}  // namespace bsbr::parallel
