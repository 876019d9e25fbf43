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
  /// what one rank knows of holds for all, and the answer is the same on all.
  /// \param is_last nothing is left but what follows the step: then only signals and the end of the job count
  /// \param validation_steps of the validation that is due next; 0: none is
  std::string reason_to_stop(MPI_Comm comm, std::int64_t step, bool is_last, std::int64_t validation_steps);

  /// Seconds so far.
  double seconds() const;

  // So long took a step, a validation, a checkpoint: before the end of a job there must be time for another.
  void note_step(double seconds) { m_step = std::max(m_step, seconds); }
  void note_validation(double seconds) { m_validation = std::max(m_validation, seconds); }
  void note_saving(double seconds) { m_saving = std::max(m_saving, seconds); }

 private:
  const char* own_reason(std::int64_t step, bool is_last, std::int64_t validation_steps) const;
  bool job_ends_soon(std::int64_t validation_steps) const;

  std::chrono::steady_clock::time_point m_start = std::chrono::steady_clock::now();
  std::optional<double> m_max_seconds;
  std::optional<std::int64_t> m_stop_after;
  std::optional<double> m_job_end;                    // seconds since 1970
  double m_step = 0, m_validation = 0, m_saving = 0;  // seconds, the longest of each
  harness::StopSignals m_signals{SIGTERM, SIGUSR1};
};

}  // namespace bsbr::apps
