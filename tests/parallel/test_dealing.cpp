// How ranks share out items and their rows: every row of every item belongs to one rank, and the work of a causal
// triangle is balanced.
#include "parallel/dealing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

namespace bsbr::testing {
namespace {

using parallel::Dealing;
using parallel::DealtRows;

constexpr std::int64_t tile = 4;

TEST(DealtRows, are_counted_and_numbered_without_gaps) {
  for (const int ranks : {1, 2, 3, 5}) {
    for (int index = 0; index < ranks; ++index) {
      const DealtRows dealt{tile, ranks, index};
      std::int64_t count = 0;
      for (std::int64_t t = 0; t < 70; ++t) {
        ASSERT_EQ(dealt.before(t), count) << t;
        if (!dealt.has(t)) continue;
        ASSERT_EQ(dealt.row(count), t);
        ++count;
      }
      EXPECT_GT(count, 0);
    }
  }
}

TEST(DealtRows, of_all_ranks_are_each_row_once) {
  for (std::int64_t t = 0; t < 50; ++t) {
    int owners = 0;
    for (int index = 0; index < 3; ++index) owners += DealtRows{tile, 3, index}.has(t) ? 1 : 0;
    EXPECT_EQ(owners, 1) << t;
  }
}

TEST(DealtRows, of_earlier_ranks_are_counted_together) {
  for (const int ranks : {1, 2, 3, 5}) {
    for (std::int64_t rows = 0; rows < 70; ++rows) {
      std::int64_t count = 0;
      for (int index = 0; index < ranks; ++index) {
        const DealtRows dealt{tile, ranks, index};
        ASSERT_EQ(dealt.of_earlier_ranks(rows), count) << rows << " rows, rank " << index << " of " << ranks;
        count += dealt.before(rows);
      }
      EXPECT_EQ(count, rows);
    }
  }
}

TEST(Dealing, gives_every_row_of_every_item_to_one_rank) {
  for (const std::int64_t items : {1, 2, 3, 8}) {
    for (const int ranks : {1, 2, 3, 4, 7, 8, 19}) {
      const Dealing dealing(items, ranks, tile);
      std::map<std::pair<std::int64_t, std::int64_t>, int> owners;
      for (int rank = 0; rank < ranks; ++rank) {
        for (std::int64_t item = dealing.first_item(rank); item < dealing.first_item(rank) + dealing.item_count(rank);
             ++item) {
          for (std::int64_t row = 0; row < 100; ++row) owners[{item, row}] += dealing.rows(rank).has(row) ? 1 : 0;
        }
      }
      EXPECT_EQ(owners.size(), static_cast<std::size_t>(items * 100)) << items << " items, " << ranks << " ranks";
      for (const auto& [row, count] : owners) ASSERT_EQ(count, 1) << items << " items, " << ranks << " ranks";
    }
  }
}

TEST(Dealing, knows_the_rows_that_a_row_was_dealt_with) {
  for (const std::int64_t items : {1, 3, 8}) {
    for (const int ranks : {1, 4, 8, 19}) {
      const Dealing dealing(items, ranks, tile);
      for (int rank = 0; rank < ranks; ++rank) {
        const DealtRows own = dealing.rows(rank);
        for (std::int64_t row = 0; row < 100; ++row) {
          if (!own.has(row)) continue;
          const DealtRows found = dealing.rows_with(dealing.first_item(rank), row);
          EXPECT_EQ(found.tile, own.tile);
          EXPECT_EQ(found.ranks, own.ranks) << items << " items, " << ranks << " ranks";
          EXPECT_EQ(found.index, own.index) << items << " items, " << ranks << " ranks";
        }
      }
    }
  }
}

TEST(Dealing, balances_a_causal_triangle) {
  constexpr std::int64_t length = 4096;
  for (const auto& [items, ranks] : {std::pair{8, 4}, {8, 8}, {4, 8}, {1, 4}, {3, 12}}) {
    const Dealing dealing(items, ranks, 64);
    std::vector<double> work;
    for (int rank = 0; rank < ranks; ++rank) {
      double pairs = 0;
      for (std::int64_t t = 0; t < length; ++t) pairs += dealing.rows(rank).has(t) ? static_cast<double>(t + 1) : 0;
      work.push_back(pairs * static_cast<double>(dealing.item_count(rank)));
    }
    double sum = 0;
    for (const double one : work) sum += one;
    EXPECT_LE(*std::max_element(work.begin(), work.end()), 1.05 * sum / ranks)
        << items << " items, " << ranks << " ranks";
  }
}

}  // namespace
}  // namespace bsbr::testing
