// A state that goes from rank to rank: in order, past those that have no tokens.
#include "parallel/carry.hpp"

#include <gtest/gtest.h>

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

TEST(Neighbours, are_the_next_ranks_that_have_tokens) {
  for (const std::int64_t length : lengths) {
    SCOPED_TRACE(std::to_string(length) + " tokens");
    const Sequence sequence(MPI_COMM_WORLD, 1, length, 4);
    const auto ranks = ranks_with_tokens(sequence);
    const auto here = std::find(ranks.begin(), ranks.end(), world_rank());
    const parallel::Neighbours neighbours(sequence);
    EXPECT_EQ(neighbours.before, here == ranks.end() || here == ranks.begin() ? -1 : *(here - 1));
    EXPECT_EQ(neighbours.after, here == ranks.end() || here + 1 == ranks.end() ? -1 : *(here + 1));
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

TYPED_TEST(Carry, brings_the_state_to_each_rank_in_the_order_of_the_sequence) {
  for (const std::int64_t length : lengths) {
    for (const std::size_t size : {std::size_t{1}, std::size_t{5}, std::size_t{100000}}) {
      SCOPED_TRACE(std::to_string(length) + " tokens, " + std::to_string(size) + " numbers");
      const Sequence sequence(MPI_COMM_WORLD, 1, length, 4);
      const auto ranks = ranks_with_tokens(sequence);
      const bool takes_part = std::find(ranks.begin(), ranks.end(), world_rank()) != ranks.end();
      std::vector<TypeParam> expected(size);
      for (std::size_t i = 0; i < size; ++i) expected[i] = static_cast<TypeParam>(i % 97);
      const Array<TypeParam*> state("test::state", size);
      set_all(state, expected);  // the first rank begins with these; the others' are overwritten
      const bool continues = parallel::receive_state(Execution(), sequence, state);
      EXPECT_EQ(continues, takes_part && world_rank() != ranks.front());

      for (const int rank : ranks) {
        if (rank >= world_rank()) break;
        for (TypeParam& number : expected) number = after_rank(number, rank);
      }
      const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), state);
      if (takes_part) {
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), host.data()));
        for (TypeParam& number : expected) number = after_rank(number, world_rank());
        set_all(state, expected);
      }
      Profile profile;
      parallel::send_state<TypeParam>(Execution(), sequence, state, &profile);
      set_all(state, std::vector<TypeParam>(size, TypeParam(-1)));  // it has been taken

      const bool is_followed = takes_part && world_rank() != ranks.back();
      EXPECT_EQ(profile.bytes_sent["state"], is_followed ? static_cast<std::int64_t>(size * sizeof(TypeParam)) : 0);
    }
  }
}

TYPED_TEST(Carry, of_one_process_alone_does_nothing) {
  const Sequence sequence(MPI_COMM_SELF, 1, 40, 4);
  Profile profile;
  EXPECT_FALSE(parallel::receive_state(Execution(), sequence, Array<TypeParam*>()));
  parallel::send_state<TypeParam>(Execution(), sequence, Array<TypeParam*>(), &profile);
  EXPECT_TRUE(profile.bytes_sent.empty());
}

}  // namespace
}  // namespace bsbr::testing
