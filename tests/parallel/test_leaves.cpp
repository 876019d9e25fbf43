// The leaves of a batch: where they are cut, and which rank has which.
#include "parallel/leaves.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "bsbr/error.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

using parallel::leaf_chunks;
using parallel::Leaves;
using parallel::TreeNode;

constexpr std::int64_t longest = std::numeric_limits<std::int64_t>::max();

struct Shape {
  std::int64_t batch, length, chunk_size;
};
const std::vector<Shape> shapes{{1, 0, 4},    {0, 9, 4},   {1, 1, 4},     {2, 40, 100}, {1, 2048, 8}, {3, 99, 5},
                                {3, 777, 16}, {2, 999, 8}, {1, 30001, 4}, {5, 17, 1},   {8, 256, 2},  {1, 5000, 2000}};

std::string name(const Shape& shape) {
  return std::to_string(shape.batch) + " rows of " + std::to_string(shape.length) + " tokens in chunks of " +
         std::to_string(shape.chunk_size);
}

Sequence sequence_of(const Shape& shape, MPI_Comm comm = MPI_COMM_WORLD) {
  return {comm, shape.batch, shape.length, shape.chunk_size, 0, leaf_chunks(shape.length, shape.chunk_size)};
}

TEST(Leaves, have_chunks_as_length_and_size_of_a_chunk_say) {
  EXPECT_EQ(leaf_chunks(16384, 128), 8);
  EXPECT_EQ(leaf_chunks(16383, 128), 8);
  EXPECT_EQ(leaf_chunks(15 * 128, 128), 1);
  EXPECT_EQ(leaf_chunks(47 * 128, 128), 2);
  EXPECT_EQ(leaf_chunks(1 << 20, 128), 8) << "no more than 1024 tokens";
  EXPECT_EQ(leaf_chunks(1 << 20, 4096), 1) << "but a whole chunk";
  EXPECT_EQ(leaf_chunks(0, 128), 1);
  EXPECT_EQ(leaf_chunks(1, 128), 1);
  EXPECT_EQ(leaf_chunks(100, 1000), 1);
  EXPECT_EQ(leaf_chunks(longest, 1), 1024);
  EXPECT_EQ(leaf_chunks(longest, longest), 1);
}

TEST(Leaves, of_a_row_follow_each_other_and_begin_at_multiples_of_their_length) {
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(name(shape));
    const Leaves leaves(sequence_of(shape));
    const std::int64_t tokens = leaf_chunks(shape.length, shape.chunk_size) * shape.chunk_size;
    std::int64_t at = 0;
    for (std::int64_t leaf = 0; leaf < leaves.per_row(); ++leaf) {
      EXPECT_EQ(leaves.tokens(leaf).begin, at);
      EXPECT_EQ(at, leaf * tokens);
      at = leaves.tokens(leaf).end;
      EXPECT_GT(at, leaves.tokens(leaf).begin);
    }
    EXPECT_EQ(at, shape.length);
    EXPECT_EQ(leaves.count(), shape.batch * leaves.per_row());
    EXPECT_EQ(leaves.tree().leaves(), leaves.count());
    EXPECT_EQ(leaves.index(2, 1), 2 * leaves.per_row() + 1);
  }
}

TEST(Leaves, of_a_rank_are_its_tokens) {
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(name(shape));
    const Sequence sequence = sequence_of(shape);
    const Leaves leaves(sequence);
    EXPECT_EQ(leaves.rank(), sequence.rank());
    EXPECT_EQ(leaves.local().begin, leaves.of_rank(sequence.rank()).begin);
    EXPECT_EQ(leaves.local().end, leaves.of_rank(sequence.rank()).end);
    std::int64_t at = 0;
    for (int rank = 0; rank < sequence.ranks(); ++rank) {
      const auto [begin, end] = leaves.of_rank(rank);
      EXPECT_EQ(begin, at);
      at = end;
      if (begin == end) {
        EXPECT_EQ(sequence.first_token_of(rank), sequence.first_token_of(rank + 1));
      } else {
        EXPECT_EQ(leaves.tokens(begin).begin, sequence.first_token_of(rank));
        EXPECT_EQ(leaves.tokens(end - 1).end, sequence.first_token_of(rank + 1));
      }
    }
    EXPECT_EQ(at, leaves.per_row());
  }
}

TEST(Leaves, of_the_longest_sequence_do_not_overflow) {
  for (const std::int64_t chunk_size : {std::int64_t{1}, std::int64_t{128}, std::int64_t{1} << 40, longest}) {
    const Leaves leaves(sequence_of({1, longest, chunk_size}));
    EXPECT_EQ(leaves.tokens(leaves.per_row() - 1).end, longest);
    EXPECT_EQ(leaves.of_rank(leaves.ranks() - 1).end, leaves.per_row());
    EXPECT_LE(leaves.nodes_of(leaves.rank()).size(), 126u);
  }
}

TEST(Leaves, tell_the_nodes_that_each_rank_is_left_with) {
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(name(shape));
    const Leaves leaves(sequence_of(shape));
    for (int rank = 0; rank < leaves.ranks(); ++rank) {
      parallel::NodesOfSum sum(leaves.tree());
      for (std::int64_t row = 0; row < shape.batch; ++row) {
        for (std::int64_t leaf = leaves.of_rank(rank).begin; leaf < leaves.of_rank(rank).end; ++leaf)
          sum.add(leaves.index(row, leaf), parallel::NoValue());
      }
      std::vector<TreeNode> left;
      for (const auto& node : sum.nodes()) left.push_back(node.place);
      EXPECT_EQ(leaves.nodes_of(rank), left) << "rank " << rank;
    }
  }
}

TEST(Leaves, of_one_rank_are_one_node_and_so_are_those_of_powers_of_two) {
  for (const int count : {1, 2, 4, 8}) {
    const FirstRanks ranks(count);
    if (count > world_ranks() || !ranks.has_this()) continue;
    const Leaves leaves(sequence_of({1, 2048, 8}, ranks.comm()));
    ASSERT_EQ(leaves.count(), 16);
    for (int rank = 0; rank < count; ++rank) EXPECT_EQ(leaves.nodes_of(rank).size(), 1u);
    const Leaves rows(sequence_of({3, 2048, 8}, ranks.comm()));
    EXPECT_EQ(rows.nodes_of(ranks.rank()).size(), count == 1 ? 1u : 3u) << "of each row, where rows are shared";
  }
}

TEST(Leaves, are_refused_where_a_rank_may_cut_them_or_earlier_tokens_are_missing) {
  for (const auto& [origin, together, says] : {std::tuple{0, 1, "ranks divide the sequence by 1"},
                                               {0, 32, "ranks divide the sequence by 32"},
                                               {8, 16, "these begin at position 8"}}) {
    try {
      Leaves(Sequence(MPI_COMM_WORLD, 1, 2048, 8, origin, together));
      ADD_FAILURE() << "not refused: " << says;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
      EXPECT_NE(error.hint().find("gradient_sequence("), std::string::npos) << error.hint();
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
