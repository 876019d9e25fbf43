// This process among those of the test, and some of them as a communicator.
#pragma once

#include <mpi.h>

namespace bsbr::testing {

inline int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

inline int world_ranks() {
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  return ranks;
}

/// The first ranks of the world as a communicator; none on the others.
class FirstRanks {
 public:
  explicit FirstRanks(int count) {
    MPI_Comm_rank(MPI_COMM_WORLD, &m_rank);
    MPI_Comm_split(MPI_COMM_WORLD, m_rank < count ? 0 : MPI_UNDEFINED, m_rank, &m_comm);
  }
  FirstRanks(const FirstRanks&) = delete;
  FirstRanks& operator=(const FirstRanks&) = delete;
  ~FirstRanks() {
    if (has_this()) MPI_Comm_free(&m_comm);
  }
  bool has_this() const { return m_comm != MPI_COMM_NULL; }
  int rank() const { return m_rank; }
  MPI_Comm comm() const { return m_comm; }

 private:
  int m_rank = 0;
  MPI_Comm m_comm = MPI_COMM_NULL;
};

}  // namespace bsbr::testing
