// What other processes do on the machine while something is measured.
#pragma once

#include <mpi.h>

#include <optional>

namespace bsbr::apps {

/// Measures from its construction how many cores of rank 0's node other processes use: all but the ranks of `comm`.
class OtherLoad {
 public:
  explicit OtherLoad(MPI_Comm comm);

  /// On average since construction; known to rank 0, where Linux tells it and enough time has passed. Collective.
  std::optional<double> cores() const;

 private:
  MPI_Comm m_comm;
  double m_start, m_own, m_busy;
};

}  // namespace bsbr::apps
