// Builds with BSBR_POISON: writing past a piece of scratch is seen, and what nobody has written is NaN.
#include "kernels/poison.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/scratch.hpp"
#include "support/device_arrays.hpp"

namespace bsbr::testing {
namespace {

using kernels::Scratch;
using kernels::scratch_bytes;

constexpr std::int64_t floats = 10, doubles = 3;

/// A kernel of one piece of floats and one of doubles, of which it writes `written` floats. By this thread, not by one
/// of Kokkos': a test that ends a process has no others.
void use_scratch(std::int64_t written) {
  const std::int64_t bytes = scratch_bytes<float>(floats) + scratch_bytes<double>(doubles);
  std::vector<char> memory(static_cast<std::size_t>(kernels::scratch_request(bytes)));
  Scratch scratch(memory.data(), bytes);
  volatile float* first = scratch.take<float>(floats);
  auto* second = scratch.take<double>(doubles);
  for (std::int64_t i = 0; i < written; ++i) first[i] = 1;
  for (std::int64_t i = 0; i < doubles; ++i) second[i] = 2;
}

TEST(Poison, writing_past_a_piece_of_scratch_is_seen) {
  if (kernels::scratch_gap == 0) GTEST_SKIP() << "only in a host's build with BSBR_POISON";
  use_scratch(floats);
  EXPECT_DEATH(use_scratch(floats + 1), "past the end of a piece of scratch, 0 bytes behind it|use-after-poison");
  EXPECT_DEATH(use_scratch(scratch_bytes<float>(floats) / 4), "past the end of a piece of scratch|use-after-poison");
}

TEST(Poison, taking_more_scratch_than_was_asked_for_is_seen) {
  if (kernels::scratch_gap == 0) GTEST_SKIP() << "only in a host's build with BSBR_POISON";
  const std::int64_t bytes = scratch_bytes<float>(floats);
  std::vector<char> memory(static_cast<std::size_t>(kernels::scratch_request(bytes)));
  EXPECT_DEATH(Scratch(memory.data(), bytes).take<float>(16 + floats), "more scratch than it has asked for");
}

TEST(Poison, writing_past_a_piece_of_a_piece_is_seen) {
  if (kernels::scratch_gap == 0) GTEST_SKIP() << "only in a host's build with BSBR_POISON";
  const auto use = [](std::int64_t written) {
    const std::int64_t inner = scratch_bytes<float>(floats), bytes = scratch_bytes<char>(inner);
    std::vector<char> memory(static_cast<std::size_t>(kernels::scratch_request(bytes)));
    Scratch scratch(memory.data(), bytes);
    auto* piece = scratch.take<char>(inner);
    volatile float* first = Scratch(piece).take<float>(floats);
    for (std::int64_t i = 0; i < written; ++i) first[i] = 1;
    Scratch(piece).take<float>(floats);  // as the next tile of keys does
  };
  use(floats);
  EXPECT_DEATH(use(floats + 1), "past the end of a piece of scratch|use-after-poison");
}

TEST(Poison, scratch_is_nan_before_it_is_written_and_free_when_the_kernel_has_ended) {
  if (kernels::scratch_gap == 0) GTEST_SKIP() << "only in a host's build with BSBR_POISON";
  const std::int64_t bytes = scratch_bytes<float>(floats) + scratch_bytes<double>(doubles);
  std::vector<char> memory(static_cast<std::size_t>(kernels::scratch_request(bytes)), 0);
  {
    Scratch scratch(memory.data(), bytes);
    const auto* first = scratch.take<float>(floats);
    const auto* second = scratch.take<double>(doubles);
    EXPECT_TRUE(std::all_of(first, first + floats, [](const float x) { return std::isnan(x); }));
    EXPECT_TRUE(std::all_of(second, second + doubles, [](const double x) { return std::isnan(x); }));
  }
  std::fill(memory.begin(), memory.end(), 1);  // by whoever has the memory next
}

TEST(Poison, arrays_are_nan_only_in_such_a_build) {
  const Array<double**> array("test::array", 3, 5);
  kernels::poison(Execution(), array);
  for (const double x : to_host(array)) EXPECT_EQ(std::isnan(x), kernels::poisons);
  kernels::poison(Execution(), Array<float*>());
}

TEST(Poison, other_builds_have_no_gaps) {
  if (kernels::poisons) GTEST_SKIP() << "only in a build without BSBR_POISON";
  EXPECT_EQ(scratch_bytes<float>(16), 64);
  EXPECT_EQ(sizeof(Scratch), sizeof(char*));
}

}  // namespace
}  // namespace bsbr::testing
