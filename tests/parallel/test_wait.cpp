// Waiting for ranks that do not come: who is named, and when.
#include "parallel/wait.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "bsbr/error.hpp"
#include "bsbr/sequence.hpp"
#include "parallel/collectives.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

int last_rank() { return world_ranks() - 1; }
bool is_last() { return world_rank() == last_rank(); }

void sleep_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

/// A communicator that nobody uses again after its test: operations may be left under way on it.
MPI_Comm communicator(double timeout) {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  set_timeout(comm, timeout);
  return comm;
}

/// What `work` throws as a CommunicationError; empty if nothing.
template <class Work>
std::string complaint(const Work& work) {
  try {
    work();
    return "";
  } catch (const CommunicationError& error) {
    return error.what();
  }
}

TEST(FindMissing, finds_nobody_missing_where_all_call) {
  for (int round = 0; round < 3; ++round) EXPECT_EQ(parallel::find_missing(MPI_COMM_WORLD, 60), std::vector<int>());
}

TEST(FindMissing, names_those_that_do_not) {
  if (world_ranks() == 1) GTEST_SKIP() << "there are no other ranks";
  const MPI_Comm comm = communicator(0);
  if (!is_last()) {
    EXPECT_EQ(parallel::find_missing(comm, 1), std::vector<int>{last_rank()});
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST(Timeout, changes_nothing_while_all_ranks_answer) {
  const MPI_Comm comm = communicator(20);
  for (int round = 0; round < 100; ++round) {
    parallel::barrier(comm);
    EXPECT_EQ(parallel::all_reduce(world_rank(), MPI_MAX, comm), last_rank());
  }
}

TEST(Timeout, names_the_rank_that_does_not_answer) {
  if (world_ranks() == 1) GTEST_SKIP() << "there are no other ranks";
  const MPI_Comm comm = communicator(2);
  if (is_last()) {
    MPI_Barrier(MPI_COMM_WORLD);  // waits for the others' complaints
  } else {
    const std::string expected = "rank " + std::to_string(last_rank()) + " does not answer, others have waited for 2 s";
    EXPECT_EQ(complaint([&] { parallel::barrier(comm); }), expected);
    MPI_Barrier(MPI_COMM_WORLD);
  }
}

TEST(Timeout, holds_for_what_is_duplicated_from_a_communicator_and_for_sequences) {
  if (world_ranks() == 1) GTEST_SKIP() << "there are no other ranks";
  const MPI_Comm comm = communicator(2);
  const Sequence sequence(comm, 1, 100, 10);
  if (!is_last()) {
    EXPECT_NE(complaint([&] { parallel::barrier(sequence.comm()); }), "");
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

// The first rank waits for the second and that for the last, who is the only one that is missing.
TEST(Timeout, names_no_rank_that_waits_itself) {
  if (world_ranks() < 3) GTEST_SKIP() << "there is no rank that waits for one that waits";
  const MPI_Comm comm = communicator(2);
  if (!is_last()) {
    std::vector<MPI_Request> requests(1, MPI_REQUEST_NULL);
    char nothing = 0;
    MPI_Irecv(&nothing, 1, MPI_CHAR, world_rank() + 1, 9, comm, requests.data());
    sleep_for(0.2 * world_rank());  // so that they do not begin to wait at the same time
    const std::string found = complaint([&] { parallel::wait(comm, requests, "MPI_Irecv"); });
    EXPECT_EQ(found.find("rank " + std::to_string(last_rank()) + " does not answer"), 0u) << found;
    MPI_Cancel(requests.data());
    MPI_Wait(requests.data(), MPI_STATUS_IGNORE);
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST(Timeout, may_be_changed_and_taken_back) {
  const MPI_Comm comm = communicator(0.2);
  set_timeout(comm, 0);
  if (is_last()) sleep_for(0.5);
  EXPECT_EQ(complaint([&] { parallel::barrier(comm); }), "");
}

TEST(Timeout, is_a_finite_number_of_seconds) {
  for (const double seconds : {-1.0, std::nan(""), HUGE_VAL})
    EXPECT_THROW(set_timeout(MPI_COMM_WORLD, seconds), ConfigError);
}

TEST(Settle, tells_whether_messages_are_done) {
  std::vector<MPI_Request> requests(1, MPI_REQUEST_NULL);
  EXPECT_TRUE(parallel::settle(requests));
  char nothing = 0;
  MPI_Irecv(&nothing, 1, MPI_CHAR, world_rank(), 9, MPI_COMM_WORLD, requests.data());
  EXPECT_FALSE(parallel::settle(requests));
  MPI_Send(&nothing, 1, MPI_CHAR, world_rank(), 9, MPI_COMM_WORLD);
  EXPECT_TRUE(parallel::settle(requests));
}

}  // namespace
}  // namespace bsbr::testing
