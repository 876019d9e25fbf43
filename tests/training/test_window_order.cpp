// The order of the data: what each epoch reads, and that nothing but seed, epoch and place decides it.
#include "training/window_order.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "bsbr/error.hpp"
#include "config/splitmix64.hpp"

namespace bsbr::testing {
namespace {

using training::permuted;
using training::Shuffle;
using training::Window;
using training::WindowOrder;

std::vector<std::int64_t> permutation(std::int64_t size, std::uint64_t key) {
  std::vector<std::int64_t> places;
  for (std::int64_t i = 0; i < size; ++i) places.push_back(permuted(i, size, key));
  return places;
}

std::vector<std::int64_t> in_order(std::int64_t size) {
  std::vector<std::int64_t> places(static_cast<std::size_t>(size));
  std::iota(places.begin(), places.end(), 0);
  return places;
}

TEST(Permutation, takes_every_place_once) {
  for (const std::int64_t size : {1, 2, 3, 4, 5, 7, 8, 16, 17, 97, 128, 1000, 1009, 4096}) {
    for (const std::uint64_t key : {0, 1, 77}) {
      auto places = permutation(size, key);
      std::sort(places.begin(), places.end());
      EXPECT_EQ(places, in_order(size)) << size << ", key " << key;
    }
  }
}

TEST(Permutation, of_a_huge_size_stays_within_it) {
  const std::int64_t size = (std::int64_t{1} << 62) + 12345;
  std::set<std::int64_t> places;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const std::int64_t place = permuted(size - 1 - i, size, 5);
    EXPECT_GE(place, 0);
    EXPECT_LT(place, size);
    places.insert(place);
  }
  EXPECT_EQ(places.size(), 1000u);
}

/// Of n keys, all permutations of four places are drawn about equally often: with 24 of them, chi² has 23 degrees of
/// freedom and exceeds 60 once in 30,000 times.
TEST(Permutation, is_any_one_with_the_same_probability) {
  constexpr int draws = 24000, expected = draws / 24;
  std::map<std::vector<std::int64_t>, int> counts;
  for (std::uint64_t key = 0; key < draws; ++key) ++counts[permutation(4, key)];
  ASSERT_EQ(counts.size(), 24u);
  double chi2 = 0;
  for (const auto& [places, count] : counts) chi2 += (count - expected) * static_cast<double>(count - expected);
  EXPECT_LT(chi2 / expected, 60);
}

/// Where a place goes, and where its neighbour goes as seen from there, is uniform: 16 groups of places each.
TEST(Permutation, spreads_places_and_parts_neighbours) {
  constexpr std::int64_t size = 16000, groups = 16;
  for (const std::uint64_t key : {1, 2, 3}) {
    const auto places = permutation(size, key);
    std::vector<int> from_first_half(groups, 0), distances(groups, 0);
    for (std::size_t i = 0; i + 1 < places.size(); ++i) {
      if (i < size / 2) ++from_first_half[static_cast<std::size_t>(places[i] * groups / size)];
      ++distances[static_cast<std::size_t>((places[i + 1] - places[i] + size) % size * groups / size)];
    }
    for (std::size_t group = 0; group < groups; ++group) {  // deviations are 16 and 31: four and five of them
      EXPECT_NEAR(from_first_half[group], 500, 80) << key;
      EXPECT_NEAR(distances[group], 1000, 150) << key;
    }
  }
}

/// The windows of an epoch, in the order in which they are taken.
std::vector<std::int64_t> firsts_of(WindowOrder& order, std::int64_t epoch) {
  std::int64_t before = 0;
  for (std::int64_t e = 0; e < epoch; ++e) before += order.windows_in(e);
  std::vector<std::int64_t> firsts;
  for (std::int64_t i = 0; i < order.windows_in(epoch); ++i) {
    const Window window = order.window(before + i);
    EXPECT_EQ(window.epoch, epoch);
    firsts.push_back(window.first);
  }
  return firsts;
}

TEST(WindowOrder, each_epoch_has_the_windows_that_fit_behind_its_offset) {
  for (const std::int64_t length : {1, 2, 7, 64}) {
    for (const std::int64_t ids : {length + 1, 2 * length, 5 * length + 3, 1000 + length}) {
      auto order = WindowOrder::of_stream(ids, length, 42, Shuffle::on);
      for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
        const auto offset = static_cast<std::int64_t>(splitmix64(42, static_cast<std::uint64_t>(epoch)) %
                                                      static_cast<std::uint64_t>(length));
        std::vector<std::int64_t> expected;
        for (std::int64_t first = offset; first + length + 1 <= ids; first += length) expected.push_back(first);
        auto firsts = firsts_of(order, epoch);
        std::sort(firsts.begin(), firsts.end());
        EXPECT_EQ(firsts, expected) << ids << " ids, length " << length << ", epoch " << epoch;
      }
    }
  }
}

TEST(WindowOrder, every_id_but_the_first_is_a_target_of_some_epoch_and_of_none_twice) {
  constexpr std::int64_t ids = 103, length = 10;
  auto order = WindowOrder::of_stream(ids, length, 3, Shuffle::on);
  std::vector<int> ever(ids, 0);
  for (std::int64_t epoch = 0; epoch < 60; ++epoch) {
    std::vector<int> targets(ids, 0);
    for (const std::int64_t first : firsts_of(order, epoch)) {
      for (std::int64_t t = first + 1; t <= first + length; ++t) ++targets[static_cast<std::size_t>(t)];
    }
    EXPECT_LE(*std::max_element(targets.begin(), targets.end()), 1);
    EXPECT_GE(std::count(targets.begin(), targets.end(), 1), ids - 2 * length);
    for (std::size_t t = 0; t < ever.size(); ++t) ever[t] += targets[t];
  }
  EXPECT_EQ(ever[0], 0);
  EXPECT_GT(*std::min_element(ever.begin() + 1, ever.end()), 0);
}

TEST(WindowOrder, without_shuffling_is_that_of_the_file_and_else_of_the_same_windows) {
  auto shuffled = WindowOrder::of_stream(1000, 9, 8, Shuffle::on),
       plain = WindowOrder::of_stream(1000, 9, 8, Shuffle::off);
  for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
    auto firsts = firsts_of(shuffled, epoch);
    const auto expected = firsts_of(plain, epoch);
    EXPECT_TRUE(std::is_sorted(expected.begin(), expected.end()));
    EXPECT_NE(firsts, expected);
    std::sort(firsts.begin(), firsts.end());
    EXPECT_EQ(firsts, expected);
  }
}

TEST(WindowOrder, of_epochs_and_of_seeds_differs) {
  auto order = WindowOrder::of_rows(50, 1, Shuffle::on), other = WindowOrder::of_rows(50, 2, Shuffle::on);
  EXPECT_NE(firsts_of(order, 0), firsts_of(order, 1));
  EXPECT_NE(firsts_of(order, 0), firsts_of(other, 0));
  EXPECT_NE(firsts_of(order, 1), firsts_of(other, 0));  // seeds and epochs are not added
}

TEST(WindowOrder, of_rows_is_a_permutation_of_them_in_each_epoch) {
  auto order = WindowOrder::of_rows(31, 4, Shuffle::on), plain = WindowOrder::of_rows(31, 4, Shuffle::off);
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    auto rows = firsts_of(order, epoch);
    EXPECT_EQ(firsts_of(plain, epoch), in_order(31));
    EXPECT_NE(rows, in_order(31));
    std::sort(rows.begin(), rows.end());
    EXPECT_EQ(rows, in_order(31));
  }
}

TEST(WindowOrder, does_not_depend_on_what_was_asked_before) {
  auto forwards = WindowOrder::of_stream(100, 9, 6, Shuffle::on);
  std::vector<Window> expected;
  for (std::int64_t i = 0; i < 200; ++i) expected.push_back(forwards.window(i));
  EXPECT_GT(expected.back().epoch, 10);
  auto backwards = forwards;
  for (std::int64_t i = 199; i >= 0; --i) EXPECT_EQ(backwards.window(i), expected[static_cast<std::size_t>(i)]) << i;
  for (const std::int64_t i : {150, 3, 77})
    EXPECT_EQ(WindowOrder::of_stream(100, 9, 6, Shuffle::on).window(i), expected[static_cast<std::size_t>(i)]) << i;
}

/// A run that is resumed by a later release reads the same windows.
TEST(WindowOrder, is_the_same_in_all_releases) {
  EXPECT_EQ(splitmix64(0, 0), splitmix64(0xe220a8397b1dcdafULL));  // of the published sequence for the seed 0
  auto order = WindowOrder::of_stream(100, 9, 7, Shuffle::on);
  std::vector<std::int64_t> firsts;
  for (std::int64_t i = 0; i < 12; ++i) firsts.push_back(order.window(i).first);
  EXPECT_EQ(firsts, (std::vector<std::int64_t>{90, 0, 63, 45, 54, 36, 27, 9, 72, 18, 81, 32}));
}

TEST(WindowOrder, passes_over_epochs_in_which_no_window_fits) {
  auto order = WindowOrder::of_stream(8, 7, 1, Shuffle::on);  // o = 0 in one epoch of seven
  std::int64_t epoch = -1;
  for (std::int64_t i = 0; i < 5; ++i) {
    const Window window = order.window(i);
    EXPECT_EQ(window.first, 0);
    EXPECT_GT(window.epoch, epoch);
    epoch = window.epoch;
  }
  EXPECT_GT(epoch, 4);
}

std::string complaint(std::int64_t ids, std::int64_t length) {
  try {
    WindowOrder::of_stream(ids, length, 0, Shuffle::on);
  } catch (const ConfigError& error) {
    EXPECT_FALSE(error.hint().empty());
    return error.what();
  }
  return "none";
}

TEST(WindowOrder, refuses_what_has_no_window) {
  EXPECT_EQ(complaint(8, 7), "none");
  EXPECT_EQ(complaint(7, 7), "a stream of 7 ids has no window of length = 7 and one id more");
  EXPECT_EQ(complaint(0, 1), "a stream of 0 ids has no window of length = 1 and one id more");
  EXPECT_EQ(complaint(8, 0), "length = 0 is below 1");
  EXPECT_THROW(WindowOrder::of_rows(0, 0, Shuffle::on), ConfigError);
  EXPECT_THROW(WindowOrder::of_rows(2, 0, Shuffle::on).window(-1), Error);
}

}  // namespace
}  // namespace bsbr::testing
