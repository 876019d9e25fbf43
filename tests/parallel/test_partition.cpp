// How items are split over ranks.
#include <gtest/gtest.h>

#include <algorithm>

#include "bsbr/sequence.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t some_items[] = {0, 1, 2, 3, 6, 7, 8, 99, 100, 101, 1 << 20, (std::int64_t{1} << 62) + 12345};
constexpr int some_ranks[] = {1, 2, 3, 4, 7, 8, 100, 4097};

template <class Check>
void for_each_partition(const Check& check) {
  for (const std::int64_t items : some_items) {
    for (const int ranks : some_ranks) {
      SCOPED_TRACE(std::to_string(items) + " items, " + std::to_string(ranks) + " ranks");
      check(Partition{items, ranks});
    }
  }
}

TEST(Partition, parts_are_contiguous_and_cover_everything) {
  for_each_partition([](const Partition& partition) {
    EXPECT_EQ(partition.end(partition.ranks - 1), partition.items);
    std::int64_t total = 0;
    for (int rank = 0; rank < partition.ranks; ++rank) {
      EXPECT_EQ(partition.begin(rank), rank == 0 ? 0 : partition.end(rank - 1)) << rank;
      EXPECT_EQ(partition.size(rank), partition.end(rank) - partition.begin(rank)) << rank;
      total += partition.size(rank);
    }
    EXPECT_EQ(total, partition.items);
  });
}

TEST(Partition, sizes_differ_by_one_at_most) {
  for_each_partition([](const Partition& partition) {
    std::int64_t least = partition.items, most = 0;
    for (int rank = 0; rank < partition.ranks; ++rank) {
      least = std::min(least, partition.size(rank));
      most = std::max(most, partition.size(rank));
    }
    EXPECT_EQ(least, partition.items / partition.ranks);
    EXPECT_EQ(most, (partition.items + partition.ranks - 1) / partition.ranks);
  });
}

TEST(Partition, more_ranks_than_items_leave_some_ranks_empty) {
  const Partition partition{3, 7};
  int empty = 0;
  for (int rank = 0; rank < 7; ++rank) {
    EXPECT_GE(partition.size(rank), 0);
    EXPECT_LE(partition.size(rank), 1);
    if (partition.size(rank) == 0) ++empty;
  }
  EXPECT_EQ(empty, 4);
}

}  // namespace
}  // namespace bsbr::testing
