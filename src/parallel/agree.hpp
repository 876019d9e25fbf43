// Makes an error on one rank an error on all ranks, so that none waits for a rank that has given up.
#pragma once

#include <mpi.h>

#include <functional>

#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"

namespace bsbr::parallel {

/// Runs `work` on every rank. If it throws on any, rethrows the error of the lowest failing rank on all ranks, type and text unchanged
/// (out-of-memory and unknown errors also name the rank). Collective, but `work` must not communicate.
/// std::bad_alloc becomes MemoryError; any error that is not a bsbr::Error becomes a std::runtime_error.
void agree(MPI_Comm comm, const std::function<void()>& work);

/// The same among the ranks of a sequence, timed as the phase "agreement": mostly the time of waiting for the slowest of them.
void agree(const Execution& execution, const Sequence& sequence, Profile* profile, const std::function<void()>& work);

}  // namespace bsbr::parallel
