#include "generation/meetings.hpp"

#include <thread>

#include "bsbr/parallel.hpp"
#include "harness/job/stop_signals.hpp"

namespace bsbr::apps {
namespace {

/// What a rank has to say, as bits.
constexpr std::int32_t nothing = 0, signal = 1, work_is_done = 2;

constexpr std::chrono::milliseconds interval{50}, rest{40};  // between meetings, and how long the others sleep

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
  while ((meet(harness::StopSignals::received() != nullptr ? signal : nothing) & work_is_done) == 0)
    std::this_thread::sleep_for(rest);  // MPI waits with all its might
}

/// What all ranks have to say.
std::int32_t Meetings::meet(std::int32_t mine) const { return parallel::all_reduce(mine, MPI_BOR, m_comm); }

}  // namespace bsbr::apps
