// Rows that earlier ranks have: which ones move, and that they arrive where they belong.
#include "parallel/halo.hpp"

#include <gtest/gtest.h>

#include "support/reals.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

using parallel::FirstNeeded;
using parallel::HaloPlan;

/// Each rank needs so many tokens before its own, as far as there are some.
FirstNeeded reach(const Sequence& sequence, std::int64_t tokens) {
  return [=](int rank) { return std::max<std::int64_t>(0, sequence.first_token_of(rank) - tokens); };
}

/// Each rank needs the tokens from the border before its own on.
FirstNeeded border(const Sequence& sequence, std::int64_t step) {
  return [=](int rank) { return sequence.first_token_of(rank) / step * step; };
}

bool has_tokens(const Sequence& sequence, int rank) {
  return sequence.first_token_of(rank) < sequence.first_token_of(rank + 1);
}

/// Number i of a token's row.
template <class Number>
Number number(std::int64_t token, std::int64_t i) {
  return static_cast<Number>((token * 7 + i * 3 + 1) % 251);
}

/// The rows that this rank holds as the plan has them, those of others as `others` tells.
template <class Number, class Others>
std::vector<Number> rows(const HaloPlan& plan, std::int64_t row, const Others& others) {
  std::vector<Number> numbers;
  for (std::int64_t t = 0; t < plan.rows(); ++t) {
    for (std::int64_t i = 0; i < row; ++i) {
      const bool is_own = t >= plan.rows_before();
      numbers.push_back(is_own ? number<Number>(plan.first_token() + t, i) : others(plan.first_token() + t, i));
    }
  }
  return numbers;
}

/// Rows of later ranks that this rank has, as each of them needs them.
std::int64_t rows_for_others(const Sequence& sequence, const FirstNeeded& first_needed) {
  std::int64_t count = 0;
  for (int later = sequence.rank() + 1; later < sequence.ranks(); ++later) {
    if (!has_tokens(sequence, later)) continue;
    for (std::int64_t t = sequence.first_token(); t < sequence.first_token() + sequence.local_tokens(); ++t) {
      count += t >= first_needed(later) ? 1 : 0;
    }
  }
  return count;
}

template <class Number>
void expect_exchanged(const Sequence& sequence, const FirstNeeded& first_needed, std::int64_t row) {
  SCOPED_TRACE(std::to_string(sequence.length()) + " tokens in chunks of " + std::to_string(sequence.chunk_size()));
  const HaloPlan plan(sequence, first_needed);
  const parallel::Halo<Number> halo(plan, row);
  ASSERT_EQ(static_cast<std::int64_t>(halo.data().extent(0)), plan.rows() * row);
  EXPECT_EQ(halo.own_offset(), plan.rows_before() * row);
  EXPECT_EQ(parallel::Halo<Number>::bytes(plan, row), plan.rows() * row * static_cast<std::int64_t>(sizeof(Number)));
  const auto before = rows<Number>(plan, row, [](std::int64_t, std::int64_t) { return Number(255); });
  Kokkos::deep_copy(halo.data(), HostArray<const Number*>(before.data(), before.size()));
  const auto messages = halo.start(Execution(), sequence.comm());
  messages->wait();
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), halo.data());
  const std::vector<Number> after(host.data(), host.data() + host.size());
  EXPECT_TRUE(after == (rows<Number>(plan, row, number<Number>)));
  EXPECT_EQ(messages->bytes_sent(),
            rows_for_others(sequence, first_needed) * row * static_cast<std::int64_t>(sizeof(Number)));
}

/// Fewer chunks than ranks, as many, and more; ragged ones; none.
std::vector<Sequence> sequences() {
  std::vector<Sequence> all;
  for (const std::int64_t chunk_size : {1, 4, 30}) {
    for (const std::int64_t length : {0, 1, 3, 9, 29, 64, 131}) all.emplace_back(MPI_COMM_WORLD, 1, length, chunk_size);
  }
  return all;
}

TEST(HaloPlan, has_the_rows_that_are_needed_and_the_own_ones) {
  for (const Sequence& sequence : sequences()) {
    for (const std::int64_t tokens : {0, 1, 5, 40, 1000}) {
      SCOPED_TRACE(std::to_string(sequence.length()) + " tokens in chunks of " + std::to_string(sequence.chunk_size()) +
                   ", reach " + std::to_string(tokens));
      const HaloPlan plan(sequence, reach(sequence, tokens));
      const std::int64_t first = sequence.first_token();
      const std::int64_t others = sequence.local_tokens() > 0 ? std::min(tokens, first) : 0;
      EXPECT_EQ(plan.first_token(), first - others);
      EXPECT_EQ(plan.rows_before(), others);
      EXPECT_EQ(plan.rows(), others + sequence.local_tokens());
      std::int64_t received = 0;
      for (const auto& slice : plan.from()) {
        EXPECT_TRUE(slice.count == 0 || slice.offset == received) << slice.offset;
        received += slice.count;
      }
      EXPECT_EQ(received, others);
    }
  }
}

TEST(HaloPlan, moves_nothing_where_no_rank_needs_a_row_of_another) {
  for (const Sequence& sequence : sequences()) {
    EXPECT_FALSE(HaloPlan(sequence, reach(sequence, 0)).moves_anything());
    const HaloPlan alone(Sequence(MPI_COMM_SELF, 1, sequence.length(), 4), [](int) { return 0; });
    EXPECT_FALSE(alone.moves_anything());
  }
}

TEST(HaloPlan, all_ranks_know_whether_something_moves) {
  for (const Sequence& sequence : sequences()) {
    bool some = false;
    for (int rank = 1; rank < sequence.ranks(); ++rank)
      some = some || (has_tokens(sequence, rank) && sequence.first_token_of(rank) > 0);
    EXPECT_EQ(HaloPlan(sequence, reach(sequence, 1)).moves_anything(), some);
  }
}

template <class Number>
class Halo : public ::testing::Test {};
using Moved = ::testing::Types<float, double, std::uint8_t>;
TYPED_TEST_SUITE(Halo, Moved);

TYPED_TEST(Halo, rows_of_earlier_ranks_arrive_in_their_places) {
  for (const Sequence& sequence : sequences()) {
    for (const std::int64_t tokens : {1, 5, 40, 1000})
      expect_exchanged<TypeParam>(sequence, reach(sequence, tokens), 3);
  }
}

TYPED_TEST(Halo, rows_from_a_border_on_arrive_in_their_places) {
  for (const Sequence& sequence : sequences()) {
    for (const std::int64_t step : {1, 4, 7, 64}) expect_exchanged<TypeParam>(sequence, border(sequence, step), 2);
  }
}

TYPED_TEST(Halo, rows_may_be_empty_and_none_may_move) {
  for (const Sequence& sequence : sequences()) {
    expect_exchanged<TypeParam>(sequence, reach(sequence, 5), 0);
    expect_exchanged<TypeParam>(sequence, reach(sequence, 0), 3);
  }
}

}  // namespace
}  // namespace bsbr::testing
