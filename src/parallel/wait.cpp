#include "parallel/wait.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <sstream>
#include <string>
#include <thread>

#include "bsbr/error.hpp"
#include "parallel/collectives.hpp"
#include "parallel/mpi.hpp"

namespace bsbr {
namespace {

using parallel::check;
using Clock = std::chrono::steady_clock;

constexpr int call_tag = 2;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// What a communicator and its duplicates carry with them.
struct Timeout {
  double seconds;
  MPI_Comm roll_call;  // where ranks look for each other; not freed, as duplicates may outlive the communicator that it
                       // was made for
};

int copy_timeout(MPI_Comm, int, void*, void* timeout, void* copy, int* copied) {
  *static_cast<Timeout**>(copy) = new Timeout(*static_cast<const Timeout*>(timeout));
  *copied = 1;
  return MPI_SUCCESS;
}

int delete_timeout(MPI_Comm, int, void* timeout, void*) {
  delete static_cast<Timeout*>(timeout);
  return MPI_SUCCESS;
}

/// MPI's key of what communicators carry for us.
int timeout_key() {
  static const int key = [] {
    int made = MPI_KEYVAL_INVALID;
    check(MPI_Comm_create_keyval(copy_timeout, delete_timeout, &made, nullptr), "MPI_Comm_create_keyval");
    return made;
  }();
  return key;
}

/// None if waits are for ever.
const Timeout* timeout_of(MPI_Comm comm) {
  Timeout* timeout = nullptr;
  int found = 0;
  check(MPI_Comm_get_attr(comm, timeout_key(), &timeout, &found), "MPI_Comm_get_attr");
  return found != 0 && timeout->seconds > 0 ? timeout : nullptr;
}

/// Ranks that look for others want an answer of those that wait for something else, too.
bool is_called(MPI_Comm roll_call) {
  int called = 0;
  check(MPI_Iprobe(MPI_ANY_SOURCE, call_tag, roll_call, &called, MPI_STATUS_IGNORE), "MPI_Iprobe");
  return called != 0;
}

/// When a message was given up last: soon after that no other is waited for in vain.
Clock::time_point last_given_up;
bool has_just_given_up() { return last_given_up != Clock::time_point() && seconds_since(last_given_up) < 10; }

[[noreturn]] void report_missing(const std::vector<int>& missing, double seconds) {
  last_given_up = Clock::now();
  std::ostringstream text;
  text << (missing.size() == 1 ? "rank " : "ranks ");
  for (std::size_t i = 0; i < missing.size(); ++i)
    text << (i == 0 ? "" : i + 1 == missing.size() ? " and " : ", ") << missing[i];
  text << (missing.size() == 1 ? " does" : " do") << " not answer, others have waited for " << seconds << " s";
  throw CommunicationError(text.str(),
                           "stopped, cut off, or busy with something else for longer than the time limit allows");
}

}  // namespace

void set_timeout(MPI_Comm comm, double seconds) {
  parallel::require_mpi();
  if (!std::isfinite(seconds) || seconds < 0) throw ConfigError("a timeout of " + std::to_string(seconds) + " seconds");
  Timeout* before = nullptr;
  int found = 0;
  check(MPI_Comm_get_attr(comm, timeout_key(), &before, &found), "MPI_Comm_get_attr");
  if (found != 0) {
    before->seconds = seconds;
    return;
  }
  MPI_Comm roll_call = MPI_COMM_NULL;
  check(MPI_Comm_dup(comm, &roll_call), "MPI_Comm_dup");
  check(MPI_Comm_set_attr(comm, timeout_key(), new Timeout{seconds, roll_call}), "MPI_Comm_set_attr");
}

namespace parallel {

namespace {

void copy_timeout(MPI_Comm from, MPI_Comm to) {
  const Timeout* const timeout = timeout_of(from);
  if (timeout != nullptr) check(MPI_Comm_set_attr(to, timeout_key(), new Timeout(*timeout)), "MPI_Comm_set_attr");
}

std::shared_ptr<MPI_Comm> owned(std::unique_ptr<MPI_Comm> comm) {
  return {comm.release(), [](MPI_Comm* of_all) {
            int finalised = 0;
            MPI_Finalized(&finalised);
            if (finalised == 0) MPI_Comm_free(of_all);
            delete of_all;
          }};
}

}  // namespace

MPI_Comm split_by_node(MPI_Comm comm) {
  MPI_Comm node = MPI_COMM_NULL;
  barrier(comm);  // splitting has no time limit
  check(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
  copy_timeout(comm, node);
  return node;
}

std::shared_ptr<MPI_Comm> duplicate(MPI_Comm comm) {
  require_mpi();
  barrier(comm);  // duplicating has no time limit
  auto copy = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  check(MPI_Comm_dup(comm, copy.get()), "MPI_Comm_dup");
  return owned(std::move(copy));
}

std::shared_ptr<MPI_Comm> split(MPI_Comm comm, int colour) {
  barrier(comm);  // nor has this
  auto some = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  check(MPI_Comm_split(comm, colour, rank_in(comm), some.get()), "MPI_Comm_split");
  copy_timeout(comm, *some);
  return owned(std::move(some));
}

void wait(MPI_Comm comm, std::span<MPI_Request> requests, const char* call) {
  const int count = static_cast<int>(requests.size());
  const Timeout* const timeout = timeout_of(comm);
  if (timeout == nullptr) {
    check(MPI_Waitall(count, requests.data(), MPI_STATUSES_IGNORE), call);
    return;
  }
  const double half = timeout->seconds / 2;  // of waiting, then of calling: whoever comes to wait in that time answers
  Clock::time_point start = Clock::now();
  for (std::int64_t tries = 0;; ++tries) {
    int done = 0;
    check(MPI_Testall(count, requests.data(), &done, MPI_STATUSES_IGNORE), call);
    if (done != 0) return;
    constexpr int tries_between_looks = 32;  // a look costs as much as a try
    if (tries % tries_between_looks != 0 || (seconds_since(start) < half && !is_called(timeout->roll_call))) continue;
    const std::vector<int> missing = find_missing(timeout->roll_call, half);
    if (!missing.empty()) report_missing(missing, timeout->seconds);
    start = Clock::now();  // everybody is there: somebody was late
  }
}

bool settle(std::span<MPI_Request> requests) noexcept {
  const Clock::time_point start = Clock::now();
  int done = 0;
  while (MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS &&
         done == 0) {
    if (!has_just_given_up() && seconds_since(start) < 1) continue;
    last_given_up = Clock::now();
    return false;
  }
  return done != 0;
}

std::vector<int> find_missing(MPI_Comm comm, double seconds) {
  const int mine = rank_in(comm), ranks = ranks_of(comm);
  std::vector<MPI_Request> calls(static_cast<std::size_t>(ranks), MPI_REQUEST_NULL), answers = calls;
  for (int rank = 0; rank < ranks; ++rank) {
    if (rank == mine) continue;
    const auto i = static_cast<std::size_t>(rank);
    check(MPI_Irecv(nullptr, 0, MPI_BYTE, rank, call_tag, comm, &answers[i]), "MPI_Irecv");
    check(MPI_Isend(nullptr, 0, MPI_BYTE, rank, call_tag, comm, &calls[i]), "MPI_Isend");
  }
  const Clock::time_point start = Clock::now();
  for (int all = 0; all == 0 && seconds_since(start) < seconds;) {
    check(MPI_Testall(ranks, answers.data(), &all, MPI_STATUSES_IGNORE), "MPI_Testall");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::vector<int> missing;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    int answered = 0;
    check(MPI_Test(&answers[i], &answered, MPI_STATUS_IGNORE), "MPI_Test");
    if (answered == 0) {
      missing.push_back(rank);
      check(MPI_Cancel(&answers[i]), "MPI_Cancel");
      check(MPI_Request_free(&answers[i]), "MPI_Request_free");
    }
    if (calls[i] != MPI_REQUEST_NULL) check(MPI_Request_free(&calls[i]), "MPI_Request_free");
  }
  return missing;
}

}  // namespace parallel
}  // namespace bsbr
