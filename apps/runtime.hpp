// The life of a program: command line, MPI, Kokkos, its work, and an orderly end in every case.
#pragma once

#include <mpi.h>

#include <functional>
#include <string>
#include <vector>

namespace bsbr::apps {

/// What parsing throws to answer --help and --version: a text for stdout, then success, with neither MPI nor Kokkos set up.
struct Answer {
  std::string text;
};

/// MPI as a program sees it: its own communicator of all ranks.
class Runtime {
 public:
  MPI_Comm comm() const { return m_comm; }
  int rank() const { return m_rank; }
  int ranks() const { return m_ranks; }
  bool is_first() const { return m_rank == 0; }

  /// Writes to stdout from rank 0. Collective; if that fails, OutputError on all ranks.
  void print(const std::string& text) const;

  /// After a failure: waits for all ranks to call this; false if some do not for ten seconds, since they are elsewhere. Uses a communicator
  /// of its own, so that it meets no other operation of such a rank.
  bool meet() const;

 private:
  friend class Session;
  MPI_Comm m_comm = MPI_COMM_NULL, m_meeting = MPI_COMM_NULL;
  int m_rank = 0, m_ranks = 1;
};

/// Runs a program and returns its exit code.
///
/// `parse` reads the command line before anything is set up; it throws Answer or UsageError. `work` runs with MPI and Kokkos; whatever it
/// throws is printed once, as failure.hpp says, and the other ranks end only after rank 0 has printed, because a launcher ends them all
/// when the first leaves. What may be one rank's failure alone ends with MPI_Abort, never with waiting for the others.
int run_program(const std::string& name, const std::function<void()>& parse, const std::function<void(const Runtime&)>& work);

/// A short text of any rank, brought to all.
std::string broadcast_from(int root, const std::string& text, MPI_Comm comm);

/// Short texts of all ranks, in their order, on rank 0; none on the others.
std::vector<std::string> gather_texts(const std::string& text, MPI_Comm comm);

}  // namespace bsbr::apps
