// How ranks share out heads and queries: every query of every head belongs to one rank, and the work of a causal
// triangle is balanced.
#include "parallel/dealing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

namespace bsbr::testing {
namespace {

using parallel::DealtTokens;
using parallel::HeadDealing;

constexpr std::int64_t tile = 4;

TEST(DealtTokens, are_counted_and_numbered_without_gaps) {
  for (const int ranks : {1, 2, 3, 5}) {
    for (int index = 0; index < ranks; ++index) {
      const DealtTokens dealt{tile, ranks, index};
      std::int64_t count = 0;
      for (std::int64_t t = 0; t < 70; ++t) {
        ASSERT_EQ(dealt.before(t), count) << t;
        if (!dealt.has(t)) continue;
        ASSERT_EQ(dealt.token(count), t);
        ++count;
      }
      EXPECT_GT(count, 0);
    }
  }
}

TEST(DealtTokens, of_all_ranks_are_each_token_once) {
  for (std::int64_t t = 0; t < 50; ++t) {
    int owners = 0;
    for (int index = 0; index < 3; ++index) owners += DealtTokens{tile, 3, index}.has(t) ? 1 : 0;
    EXPECT_EQ(owners, 1) << t;
  }
}

TEST(HeadDealing, gives_every_query_of_every_head_to_one_rank) {
  for (const std::int64_t heads : {1, 2, 3, 8}) {
    for (const int ranks : {1, 2, 3, 4, 7, 8, 19}) {
      const HeadDealing dealing(heads, ranks, tile);
      std::map<std::pair<std::int64_t, std::int64_t>, int> owners;
      for (int rank = 0; rank < ranks; ++rank) {
        for (std::int64_t head = dealing.first_head(rank); head < dealing.first_head(rank) + dealing.head_count(rank);
             ++head) {
          for (std::int64_t t = 0; t < 100; ++t) owners[{head, t}] += dealing.queries(rank).has(t) ? 1 : 0;
        }
      }
      EXPECT_EQ(owners.size(), static_cast<std::size_t>(heads * 100)) << heads << " heads, " << ranks << " ranks";
      for (const auto& [query, count] : owners) ASSERT_EQ(count, 1) << heads << " heads, " << ranks << " ranks";
    }
  }
}

TEST(HeadDealing, balances_a_causal_triangle) {
  constexpr std::int64_t length = 4096;
  for (const auto& [heads, ranks] : {std::pair{8, 4}, {8, 8}, {4, 8}, {1, 4}, {3, 12}}) {
    const HeadDealing dealing(heads, ranks, 64);
    std::vector<double> work;
    for (int rank = 0; rank < ranks; ++rank) {
      double pairs = 0;
      for (std::int64_t t = 0; t < length; ++t) pairs += dealing.queries(rank).has(t) ? static_cast<double>(t + 1) : 0;
      work.push_back(pairs * static_cast<double>(dealing.head_count(rank)));
    }
    double sum = 0;
    for (const double one : work) sum += one;
    EXPECT_LE(*std::max_element(work.begin(), work.end()), 1.05 * sum / ranks)
        << heads << " heads, " << ranks << " ranks";
  }
}

}  // namespace
}  // namespace bsbr::testing
