// Errors that one rank finds, made errors of all ranks: so that none waits for a rank that has given up.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <string>

namespace bsbr::parallel {

/// Runs `work` on every rank. If it throws on any, every rank throws: the error of the lowest such rank, of the same type, its message
/// and hint unchanged. Collective, but `work` must not communicate. std::bad_alloc becomes MemoryError; what is not a bsbr::Error
/// becomes a std::runtime_error.
void agree(MPI_Comm comm, const std::function<void()>& work);

/// Throws CommunicationError with MPI's own text unless `code` is MPI_SUCCESS. `call`: what was called, "MPI_Bcast".
void check(int code, const char* call);

/// Throws CommunicationError unless MPI is initialised and not finalised.
void require_mpi();

/// Broadcasts any number of bytes from rank 0, in pieces that MPI's int counts can tell.
void broadcast(void* data, std::int64_t bytes, MPI_Comm comm);

/// The same for a string of any length, which the other ranks need not know.
void broadcast(std::string& text, MPI_Comm comm);

}  // namespace bsbr::parallel
