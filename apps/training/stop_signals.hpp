// Signals that end a training run in good order: SIGTERM, and SIGUSR1, which batch systems send before a job's time is
// up (Slurm's --signal).
#pragma once

namespace bsbr::apps {

/// While this object lives, the first of these signals is only noted. A second SIGTERM has the effect it had before,
/// which ends the process at once.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The name of the signal that has come, "SIGTERM"; null if none has.
  static const char* received();
};

}  // namespace bsbr::apps
