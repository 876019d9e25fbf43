// Sums over leaves that ranks share out: the same bits however they are cut.
#include "parallel/ordered_sum.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "bsbr/partition.hpp"
#include "support/bits.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

using parallel::OrderedSum;
using parallel::OrderedSumOfDoubles;
using parallel::OrderedTree;
using parallel::TreeNode;

std::int64_t size_of(int level) { return std::int64_t{1} << level; }

/// The sum as text, so that its order can be seen: "((0+1)+2)".
struct Write {
  void operator()(std::string& left, const std::string& right) const { left = "(" + left + "+" + right + ")"; }
};
using WrittenSum = OrderedSum<std::string, Write>;

/// A node by its definition.
std::string node(std::int64_t leaves, std::int64_t first, int level) {
  if (level == 0) return std::to_string(first);
  const std::int64_t middle = first + size_of(level - 1);
  const std::string left = node(leaves, first, level - 1);
  return middle < leaves ? "(" + left + "+" + node(leaves, middle, level - 1) + ")" : left;
}

/// Of magnitudes so different that another order of their sum has other bits.
std::vector<double> numbers(std::int64_t count) {
  std::vector<double> all;
  for (std::int64_t i = 0; i < count; ++i)
    all.push_back(std::sin(static_cast<double>(i) + 0.5) * std::pow(10, static_cast<double>(i * 7 % 13)));
  return all;
}

/// The part of a rank in each of `rows` rows of `length` leaves, cut at multiples of `chunk`.
template <class Sum, class Leaf>
Sum part_of(int rank, int ranks, std::int64_t rows, std::int64_t length, std::int64_t chunk, const Leaf& leaf) {
  const Partition chunks{(length + chunk - 1) / chunk, ranks};
  Sum sum{OrderedTree(rows * length)};
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t t = chunks.begin(rank) * chunk; t < std::min(chunks.end(rank) * chunk, length); ++t)
      sum.add(row * length + t, leaf(row * length + t));
  }
  return sum;
}

/// The nodes that ranks are left with, joined by one that has those of all.
template <class Sum>
auto joined(const std::vector<Sum>& parts) {
  std::vector<typename Sum::Node> nodes;
  for (const Sum& part : parts) nodes.insert(nodes.end(), part.nodes().begin(), part.nodes().end());
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a.place.first < b.place.first; });
  Sum sum(parts.front().tree());
  for (const auto& one : nodes) sum.add(one.place, one.value);
  return sum.total();
}

TEST(OrderedSum, has_the_order_of_its_definition_for_any_number_of_leaves) {
  for (std::int64_t leaves = 1; leaves <= 70; ++leaves) {
    WrittenSum sum{OrderedTree(leaves)};
    for (std::int64_t i = 0; i < leaves; ++i) {
      EXPECT_LE(sum.nodes().size(), 7u);
      sum.add(i, std::to_string(i));
    }
    EXPECT_EQ(sum.total(), node(leaves, 0, OrderedTree(leaves).root().level));
  }
}

TEST(OrderedSum, has_the_same_order_wherever_ranks_cut_the_rows) {
  const auto text = [](std::int64_t i) { return std::to_string(i); };
  for (const std::int64_t length : {1, 2, 5, 8, 31, 32, 33}) {
    for (const std::int64_t rows : {1, 2, 3}) {
      const std::string expected = node(rows * length, 0, OrderedTree(rows * length).root().level);
      for (const int ranks : {1, 2, 3, 4, 7, 8}) {
        for (const std::int64_t chunk : {1, 3, 4}) {
          std::vector<WrittenSum> parts;
          for (int rank = 0; rank < ranks; ++rank)
            parts.push_back(part_of<WrittenSum>(rank, ranks, rows, length, chunk, text));
          EXPECT_EQ(joined(parts), expected) << rows << " rows of " << length << ", " << ranks << " ranks";
        }
      }
    }
  }
}

TEST(OrderedSum, has_the_same_bits_on_any_number_of_simulated_ranks) {
  for (const std::int64_t length : {7, 100, 1000, 4096}) {
    const std::vector<double> values = numbers(2 * length);
    const auto leaf = [&](std::int64_t i) { return values[static_cast<std::size_t>(i)]; };
    const double alone = part_of<OrderedSumOfDoubles>(0, 1, 2, length, 1, leaf).total();
    for (const int ranks : {2, 3, 4, 7, 8}) {
      std::vector<OrderedSumOfDoubles> parts;
      for (int rank = 0; rank < ranks; ++rank)
        parts.push_back(part_of<OrderedSumOfDoubles>(rank, ranks, 2, length, 16, leaf));
      EXPECT_TRUE(same_bits<double>({joined(parts)}, {alone}, 1)) << length << ' ' << ranks;
    }
  }
}

TEST(OrderedSum, of_another_order_has_other_bits_here) {
  const std::vector<double> values = numbers(1000);
  double forwards = 0;
  for (const double value : values) forwards += value;
  const double ordered = part_of<OrderedSumOfDoubles>(0, 1, 1, 1000, 1, [&](std::int64_t i) {
                           return values[static_cast<std::size_t>(i)];
                         }).total();
  EXPECT_NE(ordered, forwards);
  EXPECT_NEAR(ordered / forwards, 1, 1e-12);
}

TEST(OrderedSum, of_real_ranks_has_the_bits_of_one) {
  for (const std::int64_t length : {1, 5, 333, 2048}) {
    const std::vector<double> values = numbers(3 * length);
    const auto leaf = [&](std::int64_t i) { return values[static_cast<std::size_t>(i)]; };
    const double alone = part_of<OrderedSumOfDoubles>(0, 1, 3, length, 1, leaf).total();
    const auto mine = part_of<OrderedSumOfDoubles>(world_rank(), world_ranks(), 3, length, 4, leaf);
    EXPECT_TRUE(same_bits<double>({parallel::sum_of_ranks(mine, MPI_COMM_WORLD)}, {alone}, 1)) << length;
  }
}

TEST(OrderedSum, of_no_leaves_is_0) {
  EXPECT_EQ(parallel::sum_of_ranks(OrderedSumOfDoubles{OrderedTree(0)}, MPI_COMM_WORLD), 0);
}

TEST(OrderedSum, that_is_not_complete_has_no_total) {
  OrderedSumOfDoubles sum{OrderedTree(3)};
  EXPECT_THROW(sum.total(), Error);
  sum.add(0, 1.0);
  sum.add(1, 1.0);
  EXPECT_THROW(sum.total(), Error);
  sum.add(2, 1.0);
  EXPECT_EQ(sum.total(), 3);
}

TEST(OrderedTree, tells_the_nodes_that_a_rank_is_left_with) {
  for (std::int64_t leaves = 1; leaves <= 40; ++leaves) {
    const OrderedTree tree(leaves);
    for (std::int64_t begin = 0; begin <= leaves; ++begin) {
      for (std::int64_t end = begin; end <= leaves; ++end) {
        OrderedSumOfDoubles sum(tree);
        for (std::int64_t i = begin; i < end; ++i) sum.add(i, 1.0);
        std::vector<TreeNode> left;
        for (const auto& one : sum.nodes()) left.push_back(one.place);
        EXPECT_EQ(tree.nodes_of(begin, end), left) << leaves << ": " << begin << " to " << end;
      }
    }
  }
}

TEST(OrderedTree, leaves_one_node_to_a_rank_where_leaves_and_ranks_are_powers_of_two) {
  const OrderedTree tree(64);
  for (int rank = 0; rank < 8; ++rank)
    EXPECT_EQ(tree.nodes_of(8 * rank, 8 * rank + 8), (std::vector<TreeNode>{{8 * rank, 3}}));
  EXPECT_LE(tree.nodes_of(1, 63).size(), 10u);
}

}  // namespace
}  // namespace bsbr::testing
