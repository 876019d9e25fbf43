// All ranks of a job must be the same program, started in the same way.
#pragma once

#include <mpi.h>

#include <functional>
#include <string>
#include <vector>

namespace bsbr::harness {

/// Throws UsageError on all ranks unless all run `program` with the same arguments, and CommunicationError unless all
/// have the same versions of the library and of what it stands on. Collective.
void require_same_start(MPI_Comm comm, const std::string& program, const std::vector<std::string>& arguments);

/// parallel::agree for what the command line asks for: a UsageError of one rank is one on all.
void agree_on_usage(MPI_Comm comm, const std::function<void()>& work);

}  // namespace bsbr::harness
