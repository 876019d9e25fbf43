// How items are divided evenly.
#include <gtest/gtest.h>

#include <algorithm>

#include "bsbr/partition.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t some_items[] = {0, 1, 2, 3, 6, 7, 8, 99, 100, 101, 1 << 20, (std::int64_t{1} << 62) + 12345};
constexpr int some_parts[] = {1, 2, 3, 4, 7, 8, 100, 4097};
constexpr std::int64_t some_units[] = {1, 2, 5, 100, 1 << 21};

template <class Check>
void for_each_partition(const Check& check) {
  for (const std::int64_t items : some_items) {
    for (const int parts : some_parts) {
      for (const std::int64_t unit : some_units) {
        SCOPED_TRACE(std::to_string(items) + " items, " + std::to_string(parts) + " parts, units of " +
                     std::to_string(unit));
        check(Partition{items, parts, unit});
      }
    }
  }
}

TEST(Partition, parts_are_contiguous_and_cover_everything) {
  for_each_partition([](const Partition& partition) {
    EXPECT_EQ(partition.end(partition.parts - 1), partition.items);
    std::int64_t total = 0;
    for (int part = 0; part < partition.parts; ++part) {
      EXPECT_EQ(partition.begin(part), part == 0 ? 0 : partition.end(part - 1)) << part;
      EXPECT_EQ(partition.size(part), partition.end(part) - partition.begin(part)) << part;
      total += partition.size(part);
    }
    EXPECT_EQ(total, partition.items);
  });
}

TEST(Partition, parts_begin_with_whole_units) {
  for_each_partition([](const Partition& partition) {
    for (int part = 0; part < partition.parts; ++part) {
      EXPECT_TRUE(partition.size(part) == 0 || partition.begin(part) % partition.unit == 0) << part;
    }
  });
}

TEST(Partition, sizes_differ_by_one_item_at_most) {
  for_each_partition([](const Partition& partition) {
    if (partition.unit > 1) return;
    std::int64_t least = partition.items, most = 0;
    for (int part = 0; part < partition.parts; ++part) {
      least = std::min(least, partition.size(part));
      most = std::max(most, partition.size(part));
    }
    EXPECT_EQ(least, partition.items / partition.parts);
    EXPECT_EQ(most, (partition.items + partition.parts - 1) / partition.parts);
  });
}

TEST(Partition, more_parts_than_items_leave_some_empty) {
  const Partition partition{3, 7};
  int empty = 0;
  for (int part = 0; part < 7; ++part) {
    EXPECT_GE(partition.size(part), 0);
    EXPECT_LE(partition.size(part), 1);
    if (partition.size(part) == 0) ++empty;
  }
  EXPECT_EQ(empty, 4);
}

TEST(Partition, part_of_an_item_is_the_one_that_has_it) {
  for_each_partition([](const Partition& partition) {
    if (partition.items > 1 << 20) return;  // the product with the parts would overflow
    for (int part = 0; part < partition.parts; ++part) {
      if (partition.size(part) == 0) continue;
      EXPECT_EQ(partition.part_of(partition.begin(part)), part);
      EXPECT_EQ(partition.part_of(partition.end(part) - 1), part);
    }
  });
}

}  // namespace
}  // namespace bsbr::testing
