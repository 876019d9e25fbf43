// Waiting for other ranks, as long as bsbr::set_timeout allows.
#pragma once

#include <mpi.h>

#include <vector>

#include "bsbr/timeout.hpp"

namespace bsbr::parallel {

/// Returns when all requests are complete. Throws CommunicationError if MPI fails (`call`: what it was asked for), or if ranks of `comm` do
/// not answer in time.
void wait(MPI_Comm comm, std::vector<MPI_Request>& requests, const char* call);
void wait(MPI_Comm comm, MPI_Request& request, const char* call);

/// Gives requests a second to complete (none if ranks are known to be missing), for whoever must not throw; whether they have. If not,
/// their buffers must be kept for ever.
bool settle(std::vector<MPI_Request>& requests) noexcept;

/// The ranks that do not call this within so many seconds from now. Every rank that calls it hears of the others: it is what they do when
/// something is wrong, to find out who is still there.
std::vector<int> find_missing(MPI_Comm comm, double seconds);

}  // namespace bsbr::parallel
