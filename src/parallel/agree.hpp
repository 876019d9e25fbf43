// Errors that one rank finds, made errors of all ranks: so that none waits for a rank that has given up.
#pragma once

#include <mpi.h>

#include <functional>

#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"

namespace bsbr::parallel {

/// Runs `work` on every rank. If it throws on any, every rank throws: the error of the lowest such rank, of the same type, its message
/// and hint unchanged, but that those of want of memory and of unknown types name the rank. Collective, but `work` must not communicate.
/// std::bad_alloc becomes MemoryError; what is not a bsbr::Error becomes a std::runtime_error.
void agree(MPI_Comm comm, const std::function<void()>& work);

/// The same among the ranks of a sequence, timed as the phase "agreement": the time it takes is that of waiting for the slowest of them.
void agree(const Execution& execution, const Sequence& sequence, Profile* profile, const std::function<void()>& work);

}  // namespace bsbr::parallel
