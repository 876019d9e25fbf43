// A state that goes from rank to rank: in order, past those that have no tokens.
#include "parallel/carry.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "support/reals.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

std::vector<int> ranks_with_tokens(const Sequence& sequence) {
  std::vector<int> ranks;
  for (int rank = 0; rank < sequence.ranks(); ++rank) {
    if (sequence.first_token_of(rank) < sequence.first_token_of(rank + 1)) ranks.push_back(rank);
  }
  return ranks;
}

const std::int64_t lengths[] = {0, 1, 4, 7, 13, 40, 101};

TEST(CarryRanks, are_the_nearest_ones_that_have_tokens) {
  for (const std::int64_t length : lengths) {
    SCOPED_TRACE(std::to_string(length) + " tokens");
    const Sequence sequence(MPI_COMM_WORLD, 1, length, 4);
    const auto ranks = ranks_with_tokens(sequence);
    const auto here = std::find(ranks.begin(), ranks.end(), world_rank());
    const parallel::CarryRanks carry(sequence);
    EXPECT_EQ(carry.previous, here == ranks.end() || here == ranks.begin() ? -1 : *(here - 1));
    EXPECT_EQ(carry.next, here == ranks.end() || here + 1 == ranks.end() ? -1 : *(here + 1));
  }
}

/// What a rank makes of a state: the order in which that is done to it can be told from the result.
template <class Real>
Real after_rank(Real number, int rank) {
  return number * 2 + static_cast<Real>(rank + 1);
}

template <class Real>
void set_all(const Array<Real*>& array, const std::vector<Real>& numbers) {
  Kokkos::deep_copy(array, HostArray<const Real*>(numbers.data(), numbers.size()));
}

template <class Real>
class Carry : public ::testing::Test {};
TYPED_TEST_SUITE(Carry, Reals, RealNames);

std::vector<parallel::Segment> messages_of(std::size_t size, int count) {
  return parallel::segments_of({static_cast<std::int64_t>(size), count});
}

/// after = what this rank makes of before, of one message.
template <class Real>
void work_on(const parallel::Segment& message, const Array<Real*>& before, const Array<Real*>& after) {
  const auto range = std::make_pair(message.offset, message.offset + message.count);
  const Array<const Real*> message_before = Kokkos::subview(before, range);
  const auto source = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), message_before);
  std::vector<Real> made(source.data(), source.data() + source.size());
  for (Real& number : made) number = after_rank(number, world_rank());
  set_all<Real>(Kokkos::subview(after, range), made);
}

TYPED_TEST(Carry, brings_the_state_to_each_rank_in_the_order_of_the_sequence_message_by_message) {
  for (const std::int64_t length : lengths) {
    for (const auto& [size, count] :
         {std::pair{std::size_t{1}, 1}, {std::size_t{5}, 3}, {std::size_t{5}, 8}, {std::size_t{100000}, 7}}) {
      SCOPED_TRACE(std::to_string(length) + " tokens, " + std::to_string(size) + " numbers in " +
                   std::to_string(count) + " messages");
      const Sequence sequence(MPI_COMM_WORLD, 1, length, 4);
      const auto ranks = ranks_with_tokens(sequence);
      const bool takes_part = std::find(ranks.begin(), ranks.end(), world_rank()) != ranks.end();
      std::vector<TypeParam> expected(size);
      for (std::size_t i = 0; i < size; ++i) expected[i] = static_cast<TypeParam>(i % 97);
      const Array<TypeParam*> before("test::before", size), after("test::after", size);
      set_all(before, expected);  // the first rank begins with these; the others' are overwritten
      const auto messages = messages_of(size, count);
      parallel::Carry<TypeParam> carry(Execution(), sequence, before, after, messages);
      EXPECT_EQ(carry.receives(), takes_part && world_rank() != ranks.front());
      for (std::size_t message = 0; message < messages.size(); ++message) {
        carry.wait_for(message);
        work_on(messages[message], before, after);
        carry.send(message);
      }
      carry.finish();

      for (const int rank : ranks) {
        if (rank > world_rank()) break;
        for (TypeParam& number : expected) number = after_rank(number, rank);
      }
      const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), after);
      EXPECT_TRUE(!takes_part || std::equal(expected.begin(), expected.end(), host.data()));
      const bool is_followed = takes_part && world_rank() != ranks.back();
      EXPECT_EQ(carry.bytes_sent(), is_followed ? static_cast<std::int64_t>(size * sizeof(TypeParam)) : 0);
      EXPECT_EQ(carry.messages_sent(),
                is_followed ? std::min<std::int64_t>(count, static_cast<std::int64_t>(size)) : 0);
    }
  }
}

TYPED_TEST(Carry, of_one_process_alone_does_nothing) {
  const Sequence sequence(MPI_COMM_SELF, 1, 40, 4);
  const Array<TypeParam*> state("test::state", 5);
  parallel::Carry<TypeParam> carry(Execution(), sequence, state, state, messages_of(5, 2));
  EXPECT_FALSE(carry.receives());
  for (const std::size_t message : {std::size_t{0}, std::size_t{1}}) {
    carry.wait_for(message);
    carry.send(message);
  }
  carry.finish();
  EXPECT_EQ(carry.messages_sent(), 0);
}

}  // namespace
}  // namespace bsbr::testing
