// Prefixes over leaves that ranks share out: the same nodes are joined in the same order, however they are cut.
#include "parallel/prefix_tree.hpp"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace bsbr::testing {
namespace {

using parallel::PrefixTree;
using parallel::TreeNodes;

std::string leaf(std::int64_t i) { return std::to_string(i); }
std::string join(const std::string& left, const std::string& right) { return "(" + left + " " + right + ")"; }

/// The node of 2^level leaves from `first` on, by its definition.
std::string node(std::int64_t first, int level) {
  if (level == 0) return leaf(first);
  return join(node(first, level - 1), node(first + (std::int64_t{1} << (level - 1)), level - 1));
}

/// S(b) by its definition.
std::string prefix(std::int64_t b) {
  const int level = parallel::level_of(b);
  const std::int64_t earlier = b - (std::int64_t{1} << level);
  return earlier == 0 ? node(0, level) : join(prefix(earlier), node(earlier, level));
}

/// Owners that do what their trees say, level by level; what goes to others is there at once.
class Owners {
 public:
  explicit Owners(const std::vector<std::int64_t>& cuts) : m_leaves(cuts.back()) {
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) m_trees.emplace_back(m_leaves, cuts[i], cuts[i + 1]);
    for (std::int64_t b = 1; b <= m_leaves; ++b) m_nodes[b] = leaf(b - 1);
  }

  void run() {
    const int levels = PrefixTree::levels(m_leaves);
    for (int level = 0; level < levels; ++level) {
      for (const auto& tree : m_trees) send(tree, tree.left_half_for_others(level), level);
      for (const auto& tree : m_trees) receive(tree, tree.merge_with_others(level), tree.merges(level), level);
    }
    for (int level = levels - 1; level >= 0; --level) {
      for (const auto& tree : m_trees) send(tree, tree.prefix_for_others(level), level);
      for (const auto& tree : m_trees) receive(tree, tree.prefix_with_others(level), tree.prefixes(level), level);
    }
  }

  const std::map<std::int64_t, std::string>& nodes() const { return m_nodes; }
  std::size_t messages() const { return m_messages; }

 private:
  void send(const PrefixTree& tree, std::int64_t b, int level) {
    if (b == 0) return;
    EXPECT_TRUE(tree.owns(b));
    EXPECT_TRUE(m_under_way.emplace(b + (std::int64_t{1} << level), m_nodes.at(b)).second);
    ++m_messages;
  }

  void receive(const PrefixTree& tree, std::int64_t of_others, const TreeNodes& own, int level) {
    const std::int64_t size = std::int64_t{1} << level;
    for (std::int64_t i = own.count - 1; i >= 0; --i) {
      const std::int64_t b = own.first + i * own.stride;
      EXPECT_TRUE(tree.owns(b) && tree.owns(b - size));
      m_nodes.at(b) = join(m_nodes.at(b - size), m_nodes.at(b));
    }
    if (of_others == 0) return;
    EXPECT_TRUE(tree.owns(of_others) && !tree.owns(of_others - size));
    const auto message = m_under_way.find(of_others);
    ASSERT_NE(message, m_under_way.end()) << of_others << " at level " << level;
    m_nodes.at(of_others) = join(message->second, m_nodes.at(of_others));
    m_under_way.erase(message);
  }

  std::int64_t m_leaves;
  std::vector<PrefixTree> m_trees;
  std::map<std::int64_t, std::string> m_nodes;      // by b
  std::map<std::int64_t, std::string> m_under_way;  // by the b that they lead to
  std::size_t m_messages = 0;
};

void expect_all_prefixes(const std::vector<std::int64_t>& cuts) {
  SCOPED_TRACE(std::accumulate(cuts.begin(), cuts.end(), std::string("cuts"),
                               [](const std::string& all, std::int64_t cut) { return all + ' ' + leaf(cut); }));
  Owners owners(cuts);
  owners.run();
  for (const auto& [b, found] : owners.nodes()) EXPECT_EQ(found, prefix(b)) << b;
}

TEST(PrefixTree, gives_every_prefix_in_the_order_of_its_definition_wherever_leaves_are_cut) {
  for (std::int64_t leaves = 1; leaves <= 20; ++leaves) {
    for (std::int64_t first = 0; first <= leaves; ++first) {
      for (std::int64_t second = first; second <= leaves; ++second) expect_all_prefixes({0, first, second, leaves});
    }
  }
  for (const std::int64_t leaves : {31, 32, 33, 100}) {
    for (const int owners : {1, 5, 16, 33, 100}) {
      std::vector<std::int64_t> cuts;
      for (int i = 0; i <= owners; ++i) cuts.push_back(leaves * i / owners);
      expect_all_prefixes(cuts);
    }
  }
}

TEST(PrefixTree, needs_at_most_two_messages_for_each_owner) {
  std::vector<std::int64_t> cuts;
  for (int i = 0; i <= 64; ++i) cuts.push_back(16 * i);
  Owners owners(cuts);
  owners.run();
  EXPECT_LE(owners.messages(),
            64 * (1 + parallel::PrefixTree::levels(64)));  // before those that go to one rank are one
}

TEST(PrefixTree, of_no_leaves_does_nothing) {
  const PrefixTree tree(0, 0, 0);
  EXPECT_EQ(tree.levels(), 0);
}

}  // namespace
}  // namespace bsbr::testing
