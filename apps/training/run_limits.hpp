// What ends a training run before its last step.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string>

#include "harness/job/stop_signals.hpp"

namespace bsbr::apps {

/// Signals, --max-seconds, --stop-after, and the end of a Slurm job.
class RunLimits {
 public:
  /// Time counts from here on.
  /// \param max_seconds of the run; the step in which they pass is the last one; empty: no limit
  /// \param stop_after number of the last step; empty: no limit
  RunLimits(std::optional<double> max_seconds, std::optional<std::int64_t> stop_after);

  /// Whether the run ends behind this step, and why: "SIGTERM", "--max-seconds", …; empty: it goes on. Collective:
  /// what one rank knows of holds for all, and the answer is the same on all. Call it once for each step.
  std::string reason_to_stop(MPI_Comm comm, std::int64_t step);

  /// Seconds so far.
  double seconds() const;

  /// A checkpoint took so long to write: before the end of a job there must be time for another.
  void note_saving(double seconds) { m_saving = std::max(m_saving, seconds); }

 private:
  const char* own_reason(std::int64_t step);
  bool job_ends_soon();

  std::chrono::steady_clock::time_point m_start = std::chrono::steady_clock::now();
  std::optional<double> m_max_seconds;
  std::optional<std::int64_t> m_stop_after;
  std::optional<double> m_job_end;  // seconds since 1970
  double m_last_step = 0;           // when it ended, in seconds()
  double m_longest_step = 0;        // seconds
  double m_saving = 0;              // seconds
  harness::StopSignals m_signals{SIGTERM, SIGUSR1};
};

}  // namespace bsbr::apps
