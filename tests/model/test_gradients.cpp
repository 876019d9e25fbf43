// The array of gradients, and the order in which the leaves of a batch are joined.
#include "model/gradients.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "bsbr/error.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

ModelConfig tiny_config() {
  ModelConfig config = small_config(Architecture::standard);
  config.num_layers = 1;
  return config;
}

template <class Real>
class GradientArray : public ::testing::Test {};
TYPED_TEST_SUITE(GradientArray, Reals, RealNames);

TYPED_TEST(GradientArray, has_the_places_of_the_weights) {
  for (const auto& architecture : architectures) {
    const ModelConfig config = small_config(architecture.value);
    const Weights<TypeParam> weights(config);
    const Gradients<TypeParam> gradients(config);
    ASSERT_EQ(gradients.data().extent(0), weights.data().extent(0));
    for (const WeightInfo& info : weight_table(config)) {
      EXPECT_EQ(gradients.offset(info.name), weights.offset(info.name));
      if (info.shape.size() == 2) {
        EXPECT_EQ(gradients.matrix(info.name).data() - gradients.data().data(), weights.offset(info.name));
        EXPECT_EQ(gradients.matrix(info.name).extent(0), weights.matrix(info.name).extent(0));
        EXPECT_EQ(gradients.matrix(info.name).extent(1), weights.matrix(info.name).extent(1));
      } else {
        EXPECT_EQ(gradients.vector(info.name).data() - gradients.data().data(), weights.offset(info.name));
        EXPECT_EQ(gradients.vector(info.name).extent(0), weights.vector(info.name).extent(0));
      }
    }
    EXPECT_THROW(gradients.matrix("layers.9.ff.0.weight"), Error);
  }
}

TYPED_TEST(GradientArray, starts_as_zeros_and_can_be_made_zeros_again) {
  const Gradients<TypeParam> gradients(tiny_config());
  const auto zeros = std::vector<TypeParam>(gradients.data().size(), 0);
  EXPECT_TRUE(same_bits(to_host(gradients.data()), zeros, 1));
  Kokkos::deep_copy(gradients.matrix("embedding.weight"), TypeParam(3));
  EXPECT_FALSE(same_bits(to_host(gradients.data()), zeros, 1));
  gradients.set_to_zero(Execution());
  Execution().fence();
  EXPECT_TRUE(same_bits(to_host(gradients.data()), zeros, 1));
}

// ---- The tree -------------------------------------------------------------------------------------------------------

/// Numbers of a leaf whose sums depend on the order in which they are added.
template <class Real>
std::vector<Real> leaf_numbers(std::int64_t leaf, std::size_t count) {
  const auto numbers =
      random_matrix(1, static_cast<std::int64_t>(count), 100 + static_cast<std::uint64_t>(leaf)).values;
  return {numbers.begin(), numbers.end()};
}

/// The node over the leaves [begin, begin + size) of `leaves`, size a power of two: left + right, by its definition.
template <class Real>
std::vector<Real> plain_node(std::int64_t begin, std::int64_t size, std::int64_t leaves, std::size_t count) {
  if (size == 1) return leaf_numbers<Real>(begin, count);
  auto sum = plain_node<Real>(begin, size / 2, leaves, count);
  if (begin + size / 2 >= leaves) return sum;
  const auto right = plain_node<Real>(begin + size / 2, size / 2, leaves, count);
  for (std::size_t i = 0; i < count; ++i) sum[i] += right[i];
  return sum;
}

/// Of a rank that has the leaves [first, end).
template <class Real>
GradientTree<Real> tree_over(std::int64_t first, std::int64_t end, std::int64_t leaves) {
  GradientTree<Real> tree(Execution(), tiny_config(), leaves, first);
  for (std::int64_t leaf = first; leaf < end; ++leaf) {
    const auto& sum = tree.leaf();
    EXPECT_TRUE(same_bits(to_host(sum.data()), std::vector<Real>(sum.data().size(), 0), 1)) << "a new leaf is 0";
    Kokkos::deep_copy(sum.data(), to_device<Real*>(leaf_numbers<Real>(leaf, sum.data().size()), sum.data().size()));
    tree.join_leaf();
  }
  Execution().fence();
  return tree;
}

template <class Real>
class TreeOfLeaves : public ::testing::Test {};
TYPED_TEST_SUITE(TreeOfLeaves, Reals, RealNames);

TYPED_TEST(TreeOfLeaves, of_all_leaves_is_one_node_that_adds_left_and_right) {
  for (const std::int64_t leaves : {1, 2, 3, 4, 5, 7, 8, 13, 16}) {
    const auto tree = tree_over<TypeParam>(0, leaves, leaves);
    ASSERT_EQ(tree.nodes().size(), 1u) << leaves;
    const auto sum = to_host(tree.nodes().front().value.data());
    EXPECT_TRUE(same_bits(sum, plain_node<TypeParam>(0, 16, leaves, sum.size()), 1)) << leaves << " leaves";
  }
}

TYPED_TEST(TreeOfLeaves, of_a_part_are_the_largest_nodes_within_it) {
  constexpr std::int64_t leaves = 11;
  for (std::int64_t first = 0; first < leaves; ++first) {
    for (std::int64_t end = first; end <= leaves; ++end) {
      const auto tree = tree_over<TypeParam>(first, end, leaves);
      std::int64_t at = first;
      std::map<int, int> of_level;
      for (const auto& node : tree.nodes()) {
        EXPECT_EQ(node.place.first, at);
        const std::int64_t size = std::int64_t{1} << node.place.level;
        const auto sum = to_host(node.value.data());
        EXPECT_TRUE(same_bits(sum, plain_node<TypeParam>(at, size, leaves, sum.size()), 1)) << at << " of " << size;
        at = std::min(at + size, leaves);
        EXPECT_LE(++of_level[node.place.level], 2);
      }
      EXPECT_EQ(at, end);
    }
  }
}

/// Whatever the cuts between ranks, putting the nodes' siblings together leads to the same root.
TYPED_TEST(TreeOfLeaves, of_ranks_that_share_the_leaves_lead_to_the_same_sum) {
  constexpr std::int64_t leaves = 13;
  const auto whole = to_host(tree_over<TypeParam>(0, leaves, leaves).nodes().front().value.data());
  for (const auto& cuts : {std::vector<std::int64_t>{0, 1, 13}, {0, 5, 6, 13}, {0, 3, 7, 10, 13}, {0, 8, 12, 13}}) {
    std::map<std::pair<int, std::int64_t>, std::vector<TypeParam>> nodes;  // by level and first leaf
    for (std::size_t i = 1; i < cuts.size(); ++i) {
      const auto tree = tree_over<TypeParam>(cuts[i - 1], cuts[i], leaves);
      for (const auto& node : tree.nodes()) nodes[{node.place.level, node.place.first}] = to_host(node.value.data());
    }
    const std::function<std::vector<TypeParam>(int, std::int64_t)> sum_of = [&](int level, std::int64_t first) {
      if (nodes.count({level, first}) > 0) return nodes[{level, first}];
      const std::int64_t middle = first + (std::int64_t{1} << (level - 1));
      auto sum = sum_of(level - 1, first);
      if (middle >= leaves) return sum;
      const auto right = sum_of(level - 1, middle);
      for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += right[k];
      return sum;
    };
    EXPECT_TRUE(same_bits(sum_of(4, 0), whole, 1));
  }
}

TYPED_TEST(TreeOfLeaves, keeps_a_node_of_each_level_and_one_leaf) {
  constexpr std::int64_t leaves = 64;
  GradientTree<TypeParam> tree(Execution(), tiny_config(), leaves);
  std::size_t most = 0;
  std::map<const void*, int> arrays;
  for (std::int64_t leaf = 0; leaf < leaves; ++leaf) {
    ++arrays[tree.leaf().data().data()];
    tree.join_leaf();
    most = std::max(most, tree.nodes().size());
  }
  EXPECT_EQ(most, 6u);
  EXPECT_EQ(arrays.size(), 7u) << "arrays that have held a leaf";
}

TYPED_TEST(TreeOfLeaves, has_no_more_leaves_than_there_are) {
  auto tree = tree_over<TypeParam>(0, 3, 3);
  EXPECT_THROW(tree.leaf(), Error);
  GradientTree<TypeParam> empty(Execution(), tiny_config(), 2);
  EXPECT_THROW(empty.join_leaf(), Error);
}

}  // namespace
}  // namespace bsbr::testing
