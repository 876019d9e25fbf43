// Messages between pairs of ranks, and the ranks around one in the order of the sequence.
#include "parallel/messages.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/neighbours.hpp"
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

TEST(Neighbours, are_the_nearest_ranks_that_have_tokens) {
  for (const std::int64_t length : lengths) {
    SCOPED_TRACE(std::to_string(length) + " tokens");
    const Sequence sequence(MPI_COMM_WORLD, 1, length, 4);
    const auto ranks = ranks_with_tokens(sequence);
    const auto here = std::find(ranks.begin(), ranks.end(), world_rank());
    const parallel::Neighbours neighbours(sequence);
    EXPECT_EQ(neighbours.previous, here == ranks.end() || here == ranks.begin() ? -1 : *(here - 1));
    EXPECT_EQ(neighbours.next, here == ranks.end() || here + 1 == ranks.end() ? -1 : *(here + 1));
  }
}

template <class Real>
Array<Real*> filled(std::size_t size, int number) {
  const Array<Real*> array("test::data", size);
  Kokkos::deep_copy(array, static_cast<Real>(number));
  return array;
}

template <class Real>
class Messages : public ::testing::Test {};
TYPED_TEST_SUITE(Messages, Reals, RealNames);

/// From each rank to the next two, with two tags, sent in another order than received.
TYPED_TEST(Messages, arrive_by_rank_and_tag) {
  constexpr int tags[] = {7, 400};
  const int ranks = world_ranks(), rank = world_rank();
  for (const std::size_t size : {std::size_t{1}, std::size_t{5}, std::size_t{100000}}) {
    parallel::Messages<TypeParam> messages(Execution(), MPI_COMM_WORLD);
    std::vector<std::size_t> received;
    std::vector<Array<TypeParam*>> targets;
    std::vector<int> expected;
    const auto number = [&](int from, int step, int tag) { return from * 1000 + step * 500 + tag; };
    for (int step = 1; step <= std::min(2, ranks - 1); ++step) {
      for (const int tag : tags) {
        const int from = (rank + ranks - step) % ranks;
        targets.push_back(filled<TypeParam>(size, -1));
        received.push_back(messages.receive(from, tag, targets.back()));
        expected.push_back(number(from, step, tag));
      }
    }
    for (int step = std::min(2, ranks - 1); step >= 1; --step) {
      for (const int tag : {tags[1], tags[0]})
        messages.send((rank + step) % ranks, tag, filled<TypeParam>(size, number(rank, step, tag)));
    }
    messages.progress();
    for (std::size_t i = received.size(); i-- > 0;) {
      messages.wait_for(received[i]);
      const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), targets[i]);
      EXPECT_EQ(std::count(host.data(), host.data() + size, static_cast<TypeParam>(expected[i])),
                static_cast<std::ptrdiff_t>(size));
    }
    messages.wait();
    EXPECT_EQ(messages.messages_sent(), 2 * std::min(2, ranks - 1));
    EXPECT_EQ(messages.bytes_sent(), messages.messages_sent() * static_cast<std::int64_t>(size * sizeof(TypeParam)));
  }
}

}  // namespace
}  // namespace bsbr::testing
