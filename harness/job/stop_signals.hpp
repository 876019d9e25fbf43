// Signals that end a run in good order: SIGTERM, and for training SIGUSR1, which batch systems send before a job's time
// is up (Slurm's --signal), for generation SIGINT, which the keys Ctrl-C send.
#pragma once

#include <csignal>
#include <initializer_list>

namespace bsbr::harness {

/// While this object lives, the first of these signals is only noted, unless it was ignored before. A second SIGTERM or
/// SIGINT has the effect it had before, which ends the process at once.
class StopSignals {
 public:
  /// `signals`: of SIGTERM, SIGINT and SIGUSR1.
  explicit StopSignals(std::initializer_list<int> signals);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The name of the signal that has come, "SIGTERM"; null if none has.
  static const char* received();
};

}  // namespace bsbr::harness
