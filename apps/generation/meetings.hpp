// Ranks that wait while rank 0 works alone.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <string>

namespace bsbr::apps {

/// While rank 0 generates, all ranks meet some times a second: so a signal that has reached any of them stops rank 0.
/// Those that wait sleep, as long as it takes: no time limit of the communicator holds. StopSignals must be there.
class Meetings {
 public:
  explicit Meetings(MPI_Comm comm);

  /// Rank 0, as often as it likes: why it has to stop, "SIGTERM"; empty: it has not.
  std::string reason_to_stop();

  /// Rank 0, when it has done its work or has failed.
  void end();

  /// The others: returns when rank 0 has called end().
  void wait_for_end();

 private:
  std::int32_t meet(std::int32_t mine) const;

  MPI_Comm m_comm;
  int m_ranks;
  std::chrono::steady_clock::time_point m_last;
};

}  // namespace bsbr::apps
