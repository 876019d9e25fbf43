#include "parallel/wait.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <sstream>
#include <string>
#include <thread>

#include "bsbr/error.hpp"
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
  MPI_Comm calls;  // where ranks look for each other; not freed, as duplicates may outlive the communicator that it was made for
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
bool is_called(MPI_Comm calls) {
  int called = 0;
  check(MPI_Iprobe(MPI_ANY_SOURCE, call_tag, calls, &called, MPI_STATUS_IGNORE), "MPI_Iprobe");
  return called != 0;
}

/// Set when ranks were found missing: no message needs to be waited for any more.
std::atomic<bool> some_are_missing = false;

[[noreturn]] void report_missing(const std::vector<int>& missing, double seconds) {
  some_are_missing = true;
  std::ostringstream text;
  text << (missing.size() == 1 ? "rank " : "ranks ");
  for (std::size_t i = 0; i < missing.size(); ++i) text << (i == 0 ? "" : i + 1 == missing.size() ? " and " : ", ") << missing[i];
  text << (missing.size() == 1 ? " has" : " have") << " not answered for " << seconds << " s, while others waited";
  throw CommunicationError(text.str(), "it was stopped or cut off, or was busy for longer than the timeout allows");
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
  if (seconds == 0) return;
  MPI_Comm calls = MPI_COMM_NULL;
  check(MPI_Comm_dup(comm, &calls), "MPI_Comm_dup");
  check(MPI_Comm_set_attr(comm, timeout_key(), new Timeout{seconds, calls}), "MPI_Comm_set_attr");
}

namespace parallel {

void wait(MPI_Comm comm, std::vector<MPI_Request>& requests, const char* call) {
  const int count = static_cast<int>(requests.size());
  const Timeout* const timeout = timeout_of(comm);
  if (timeout == nullptr) {
    check(MPI_Waitall(count, requests.data(), MPI_STATUSES_IGNORE), call);
    return;
  }
  const double answering = std::min(1.0, timeout->seconds / 4), patience = timeout->seconds - answering;
  Clock::time_point start = Clock::now();
  for (std::int64_t tries = 0;; ++tries) {
    int done = 0;
    check(MPI_Testall(count, requests.data(), &done, MPI_STATUSES_IGNORE), call);
    if (done != 0) return;
    constexpr int tries_between_looks = 32;  // a look costs as much as a try
    if (tries % tries_between_looks != 0 || (seconds_since(start) < patience && !is_called(timeout->calls))) continue;
    const std::vector<int> missing = find_missing(timeout->calls, answering);
    if (!missing.empty()) report_missing(missing, timeout->seconds);
    start = Clock::now();  // everybody is there: somebody was late
  }
}

void wait(MPI_Comm comm, MPI_Request& request, const char* call) {
  std::vector<MPI_Request> requests{request};
  request = MPI_REQUEST_NULL;  // from here on nobody else's, whatever happens
  wait(comm, requests, call);
}

bool settle(std::vector<MPI_Request>& requests) noexcept {
  const Clock::time_point start = Clock::now();
  int done = 0;
  while (MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS && done == 0) {
    if (some_are_missing || seconds_since(start) > 1) return false;
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
