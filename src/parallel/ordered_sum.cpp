#include "parallel/ordered_sum.hpp"

#include <algorithm>
#include <bit>

#include "bsbr/parallel.hpp"
#include "parallel/tree_level.hpp"

namespace bsbr::parallel {

OrderedTree::OrderedTree(std::int64_t leaves)
    : m_leaves(leaves),
      m_levels(leaves < 2 ? 0 : static_cast<int>(std::bit_width(static_cast<std::uint64_t>(leaves - 1)))) {}

std::int64_t OrderedTree::end(TreeNode node) const { return std::min(node.first + leaves_of(node.level), m_leaves); }

TreeNode OrderedTree::raised(TreeNode node) const {
  const auto is_left = [](TreeNode half) { return half.first % leaves_of(half.level + 1) == 0; };
  while (node.level < m_levels && is_left(node) && node.first + leaves_of(node.level) >= m_leaves) ++node.level;
  return node;
}

bool OrderedTree::are_halves(TreeNode left, TreeNode right) const {
  return left.level == right.level && left.first + leaves_of(left.level) == right.first &&
         left.first % leaves_of(left.level + 1) == 0;
}

std::vector<TreeNode> OrderedTree::nodes_of(std::int64_t begin, std::int64_t last) const {
  std::vector<TreeNode> nodes;
  while (begin < last) {
    TreeNode node{begin, 0};
    for (int level = 1; level <= m_levels && begin % leaves_of(level) == 0 && end({begin, level}) <= last; ++level)
      node.level = level;
    nodes.push_back(node);
    begin = end(node);
  }
  return nodes;
}

double sum_of_ranks(const OrderedSumOfDoubles& mine, MPI_Comm comm) {
  using Node = OrderedSumOfDoubles::Node;
  if (mine.tree().leaves() == 0) return 0;
  const auto counts = all_gather(static_cast<std::int64_t>(mine.nodes().size()), comm);
  std::vector<Node> nodes = gather_on_first(mine.nodes().data(), counts, comm);
  std::sort(nodes.begin(), nodes.end(), [](const Node& a, const Node& b) { return a.place.first < b.place.first; });
  double total = 0;
  agree(comm, [&] {
    if (rank_in(comm) != 0) return;
    OrderedSumOfDoubles sum(mine.tree());
    for (const Node& node : nodes) sum.add(node.place, node.value);
    total = sum.total();
  });
  broadcast(&total, sizeof total, comm);
  return total;
}

}  // namespace bsbr::parallel
