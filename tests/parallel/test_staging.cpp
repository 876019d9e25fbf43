// The host's buffers for messages that are staged: who has which, and that they are kept.
#include "parallel/staging.hpp"

#include <gtest/gtest.h>

#include "support/allocations.hpp"

namespace bsbr::testing {
namespace {

using parallel::take_staging_buffer;

TEST(StagingBuffers, are_kept_for_the_next_message) {
  const void* first = take_staging_buffer(5000)->data();
  const AllocationRecorder recorder;
  EXPECT_EQ(take_staging_buffer(5000)->data(), first);
  EXPECT_EQ(take_staging_buffer(70)->data(), first);
  EXPECT_TRUE(recorder.without({}).empty()) << ::testing::PrintToString(recorder.without({}));
}

TEST(StagingBuffers, belong_to_one_message_at_a_time) {
  const auto first = take_staging_buffer(5000), second = take_staging_buffer(5000);
  EXPECT_NE(first->data(), second->data());
  auto copy = second;
  const void* memory = copy->data();
  EXPECT_NE(take_staging_buffer(5000)->data(), memory);
}

TEST(StagingBuffers, are_large_enough_and_the_smallest_that_are) {
  for (const std::int64_t bytes : {0, 1, 4097, 300'000})
    EXPECT_GE(take_staging_buffer(bytes)->size(), static_cast<std::size_t>(bytes));
  const void *large = nullptr, *small = nullptr;
  {
    const auto some = take_staging_buffer(300'000), more = take_staging_buffer(200'000);
    large = some->data();
    small = more->data();
  }
  EXPECT_EQ(take_staging_buffer(200'000)->data(), small);
  EXPECT_EQ(take_staging_buffer(200'001)->data(), large);
}

/// Messages that grow do not leave a buffer of each size behind.
TEST(StagingBuffers, that_are_too_small_make_way) {
  { const auto all_others = take_staging_buffer(1 << 20); }
  const AllocationRecorder recorder;
  const void* grown = take_staging_buffer(2 << 20)->data();
  EXPECT_EQ(total_bytes(recorder.without({})) >> 20, 2);
  EXPECT_EQ(take_staging_buffer(1 << 20)->data(), grown);
}

}  // namespace
}  // namespace bsbr::testing
