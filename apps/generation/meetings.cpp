#include "generation/meetings.hpp"

#include <thread>

#include "bsbr/parallel.hpp"
#include "harness/job/stop_signals.hpp"

namespace bsbr::apps {
namespace {

/// What a rank has to say, as bits.
constexpr std::int32_t nothing = 0, signal = 1, work_is_done = 2;

constexpr std::chrono::milliseconds interval{50}, nap{1};  // between meetings, and between looks who is there

}  // namespace

Meetings::Meetings(MPI_Comm comm)
    : m_comm(comm), m_ranks(parallel::ranks_of(comm)), m_last(std::chrono::steady_clock::now()) {}

std::string Meetings::reason_to_stop() {
  if (const char* mine = harness::StopSignals::received()) return mine;
  const auto now = std::chrono::steady_clock::now();
  if (m_ranks == 1 || now - m_last < interval) return "";
  m_last = now;
  return (meet(nothing) & signal) != 0 ? "a signal to another rank" : "";
}

void Meetings::end() {
  if (m_ranks > 1) meet(work_is_done);
}

void Meetings::wait_for_end() {
  while ((meet(harness::StopSignals::received() != nullptr ? signal : nothing) & work_is_done) == 0) continue;
}

/// What all ranks have to say. MPI waits busily, this does not.
std::int32_t Meetings::meet(std::int32_t mine) const {
  std::int32_t all = nothing;
  MPI_Request request = MPI_REQUEST_NULL;
  parallel::check(MPI_Iallreduce(&mine, &all, 1, MPI_INT32_T, MPI_BOR, m_comm, &request), "MPI_Iallreduce");
  for (int complete = 0;; std::this_thread::sleep_for(nap)) {
    parallel::check(MPI_Test(&request, &complete, MPI_STATUS_IGNORE), "MPI_Test");
    if (complete != 0) return all;
  }
}

}  // namespace bsbr::apps
