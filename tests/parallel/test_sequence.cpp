// The part of a batch of sequences that each rank holds, and the communicator that it holds it in.
#include <gtest/gtest.h>

#include <limits>
#include <optional>

#include "bsbr/error.hpp"
#include "bsbr/sequence.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

std::int64_t sum_over_ranks(std::int64_t value) {
  MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  return value;
}

TEST(Sequence, tells_its_shape) {
  const Sequence sequence(MPI_COMM_WORLD, 3, 23, 5);
  EXPECT_EQ(sequence.batch(), 3);
  EXPECT_EQ(sequence.length(), 23);
  EXPECT_EQ(sequence.chunk_size(), 5);
  EXPECT_EQ(sequence.num_chunks(), 5);
  EXPECT_EQ(sequence.rank(), world_rank());
  EXPECT_EQ(sequence.ranks(), world_ranks());
}

TEST(Sequence, ranks_hold_whole_chunks_that_add_up_to_the_sequence) {
  for (const std::int64_t chunk_size : {1, 4, 5, 128, 1 << 30}) {
    for (const std::int64_t length : {0, 1, 3, 4, 5, 6, 20, 21, 99, 1000003}) {
      SCOPED_TRACE(std::to_string(length) + " tokens in chunks of " + std::to_string(chunk_size));
      const Sequence sequence(MPI_COMM_WORLD, 1, length, chunk_size);
      EXPECT_EQ(sequence.num_chunks(), (length + chunk_size - 1) / chunk_size);
      EXPECT_EQ(sum_over_ranks(sequence.local_tokens()), length);
      EXPECT_EQ(sum_over_ranks(sequence.local_chunks()), sequence.num_chunks());
      EXPECT_EQ(sequence.first_token(), std::min(sequence.first_chunk() * chunk_size, length));
      EXPECT_EQ(sequence.first_chunk(), sequence.chunks().begin(sequence.rank()));
      EXPECT_GE(sequence.local_tokens(), 0);
      EXPECT_EQ((sequence.local_tokens() + chunk_size - 1) / chunk_size, sequence.local_chunks());
      EXPECT_EQ(sequence.first_token_of(0), 0);
      EXPECT_EQ(sequence.first_token_of(sequence.ranks()), length);
    }
  }
}

TEST(Sequence, chunks_that_belong_together_are_on_one_rank) {
  for (const std::int64_t together : {1, 2, 3, 50}) {
    const Sequence sequence(MPI_COMM_WORLD, 1, 99, 5, 0, together);
    EXPECT_EQ(sum_over_ranks(sequence.local_tokens()), 99);
    EXPECT_EQ(sum_over_ranks(sequence.local_chunks()), 20);
    EXPECT_TRUE(sequence.local_chunks() == 0 || sequence.first_chunk() % together == 0);
  }
  EXPECT_THROW(Sequence(MPI_COMM_WORLD, 1, 99, 5, 0, 0), ConfigError);
}

TEST(Sequence, the_longest_sequence_of_all_does_not_overflow) {
  constexpr std::int64_t longest = std::numeric_limits<std::int64_t>::max();
  const Sequence sequence(MPI_COMM_WORLD, 1, longest, 1 << 30);
  EXPECT_EQ(sum_over_ranks(sequence.local_tokens()), longest);
  EXPECT_THROW(Sequence(MPI_COMM_WORLD, 1, std::numeric_limits<std::int64_t>::min(), 4), ConfigError);
}

TEST(Sequence, every_rank_knows_where_the_others_begin) {
  const Sequence sequence(MPI_COMM_WORLD, 2, 103, 10);  // a tail of three tokens
  std::vector<std::int64_t> begins(static_cast<std::size_t>(sequence.ranks()));
  const std::int64_t mine = sequence.first_token();
  MPI_Allgather(&mine, 1, MPI_INT64_T, begins.data(), 1, MPI_INT64_T, MPI_COMM_WORLD);
  for (int rank = 0; rank < sequence.ranks(); ++rank)
    EXPECT_EQ(sequence.first_token_of(rank), begins[static_cast<std::size_t>(rank)]);
}

TEST(Sequence, of_length_zero_has_no_chunks) {
  const Sequence sequence(MPI_COMM_WORLD, 2, 0, 8);
  EXPECT_EQ(sequence.num_chunks(), 0);
  EXPECT_EQ(sequence.local_chunks(), 0);
  EXPECT_EQ(sequence.local_tokens(), 0);
  EXPECT_EQ(sequence.first_token(), 0);
}

TEST(Sequence, more_ranks_than_chunks_leave_some_ranks_without_tokens) {
  const Sequence sequence(MPI_COMM_WORLD, 1, 7, 5);
  EXPECT_EQ(sum_over_ranks(sequence.local_tokens() > 0 ? 1 : 0), std::min(2, world_ranks()));
}

TEST(Sequence, may_have_billions_of_tokens) {
  const std::int64_t length = (std::int64_t{1} << 40) + 1;
  const Sequence sequence(MPI_COMM_WORLD, 1, length, 128);
  EXPECT_EQ(sum_over_ranks(sequence.local_tokens()), length);
}

// ---- Wrong arguments ------------------------------------------------------------------------------------------------

template <class Expected>
std::string message_of(std::int64_t batch, std::int64_t length, std::int64_t chunk_size) {
  try {
    const Sequence sequence(MPI_COMM_WORLD, batch, length, chunk_size);
  } catch (const Expected& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Sequence, refuses_arguments_that_make_no_sense) {
  EXPECT_EQ(message_of<ConfigError>(-1, 5, 4), "batch = -1 is negative");
  EXPECT_EQ(message_of<ConfigError>(1, -5, 4), "length = -5 is negative");
  EXPECT_EQ(message_of<ConfigError>(1, 5, 0), "chunk_size = 0 is below 1");
  EXPECT_EQ(message_of<ConfigError>(1, 5, -3), "chunk_size = -3 is below 1");
}

TEST(Sequence, ranks_that_disagree_on_an_argument_all_throw) {
  if (world_ranks() == 1) GTEST_SKIP() << "one rank agrees with itself";
  for (int odd = 0; odd < world_ranks(); ++odd) {
    SCOPED_TRACE("rank " + std::to_string(odd) + " has another argument");
    const std::int64_t more = world_rank() == odd ? 1 : 0;
    EXPECT_EQ(message_of<CommunicationError>(2 + more, 50, 4),
              "the ranks disagree on the sequence's batch: 2 on one, 3 on another");
    EXPECT_EQ(message_of<CommunicationError>(2, 50 + more, 4),
              "the ranks disagree on the sequence's length: 50 on one, 51 on another");
    EXPECT_EQ(message_of<CommunicationError>(2, 50, 4 - more),
              "the ranks disagree on the sequence's chunk_size: 3 on one, 4 on another");
    EXPECT_EQ(message_of<CommunicationError>(2, -more, 4),
              "the ranks disagree on the sequence's length: -1 on one, 0 on another");
  }
}

// ---- The communicator -----------------------------------------------------------------------------------------------

TEST(Sequence, has_a_communicator_of_its_own) {
  const Sequence first(MPI_COMM_WORLD, 1, 10, 4), second(MPI_COMM_WORLD, 1, 10, 4);
  int comparison = MPI_UNEQUAL;
  MPI_Comm_compare(first.comm(), MPI_COMM_WORLD, &comparison);
  EXPECT_EQ(comparison, MPI_CONGRUENT);
  MPI_Comm_compare(first.comm(), second.comm(), &comparison);
  EXPECT_EQ(comparison, MPI_CONGRUENT);
}

TEST(Sequence, outlives_the_communicator_that_it_was_made_from) {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  const Sequence sequence(comm, 1, 10, 4);
  MPI_Comm_free(&comm);
  int one = 1;
  MPI_Allreduce(MPI_IN_PLACE, &one, 1, MPI_INT, MPI_SUM, sequence.comm());
  EXPECT_EQ(one, world_ranks());
}

TEST(Sequence, messages_of_the_library_do_not_meet_those_of_the_caller) {
  const Sequence sequence(MPI_COMM_WORLD, 1, 10, 4);
  const int next = (world_rank() + 1) % world_ranks(), previous = (world_rank() + world_ranks() - 1) % world_ranks();
  const int callers = 1, librarys = 2;
  int received = 0;
  MPI_Request sent[2];
  MPI_Isend(&callers, 1, MPI_INT, next, 1, MPI_COMM_WORLD, &sent[0]);
  MPI_Isend(&librarys, 1, MPI_INT, next, 1, sequence.comm(), &sent[1]);
  MPI_Recv(&received, 1, MPI_INT, previous, 1, sequence.comm(), MPI_STATUS_IGNORE);
  EXPECT_EQ(received, librarys);
  MPI_Recv(&received, 1, MPI_INT, previous, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  EXPECT_EQ(received, callers);
  MPI_Waitall(2, sent, MPI_STATUSES_IGNORE);
}

int deleted(MPI_Comm, int, void* count, void*) {
  ++*static_cast<int*>(count);
  return MPI_SUCCESS;
}

TEST(Sequence, frees_its_communicator_with_its_last_copy) {
  int freed = 0, key = MPI_KEYVAL_INVALID;
  MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, deleted, &key, nullptr);
  std::optional<Sequence> copy;
  {
    const Sequence sequence(MPI_COMM_WORLD, 1, 10, 4);
    MPI_Comm_set_attr(sequence.comm(), key, &freed);
    copy = sequence;
    EXPECT_EQ(copy->comm(), sequence.comm());
  }
  EXPECT_EQ(freed, 0);
  copy.reset();
  EXPECT_EQ(freed, 1);
  MPI_Comm_free_keyval(&key);
}

}  // namespace
}  // namespace bsbr::testing
