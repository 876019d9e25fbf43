// Waiting for other ranks, as long as bsbr::set_timeout allows.
#pragma once

#include <mpi.h>

#include <memory>
#include <span>
#include <vector>

#include "bsbr/timeout.hpp"

namespace bsbr::parallel {

/// Returns when all requests are complete. Throws CommunicationError if MPI fails (`call`: what it was asked for), or
/// if ranks of `comm` do not answer in time. Then they are under way still, and their buffers must be kept for ever.
void wait(MPI_Comm comm, std::span<MPI_Request> requests, const char* call);

/// The same for one request, and what it uses is kept if that must be.
template <class Buffers>
void wait(MPI_Comm comm, MPI_Request request, const char* call, std::unique_ptr<Buffers>& buffers) {
  try {
    wait(comm, std::span(&request, 1), call);
  } catch (...) {
    [[maybe_unused]] const Buffers* const kept = buffers.release();
    throw;
  }
}

/// Gives requests a second to complete (less soon after some did not), for whoever must not throw; whether they have.
/// If not, their buffers must be kept for ever.
bool settle(std::span<MPI_Request> requests) noexcept;

/// The ranks that do not call this within so many seconds from now. Every rank that calls it hears of the others: it is
/// what they do when something is wrong, to find out who is still there.
std::vector<int> find_missing(MPI_Comm comm, double seconds);

}  // namespace bsbr::parallel
