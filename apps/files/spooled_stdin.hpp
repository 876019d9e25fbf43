// Stdin as a file that every rank can read.
#pragma once

#include <mpi.h>

#include <string>

namespace bsbr::apps {

/// What rank 0 reads from stdin, in the memory of every rank, since a launcher gives stdin to rank 0 alone and files
/// are read in parts.
class SpooledStdin {
 public:
  /// Reads to the end. Collective. Throws FileError, MemoryError.
  explicit SpooledStdin(MPI_Comm comm);
  ~SpooledStdin();
  SpooledStdin(const SpooledStdin&) = delete;
  SpooledStdin& operator=(const SpooledStdin&) = delete;

  /// Names the file while this object lives, in this process.
  std::string path() const { return "/proc/self/fd/" + std::to_string(m_descriptor); }

  /// An error message with "stdin" instead of the path.
  std::string renamed(std::string message) const;

 private:
  int m_descriptor = -1;
};

}  // namespace bsbr::apps
