// Starting Kokkos in an environment that has been checked, for programs that leave that to the library.
#pragma once

#include <string>

namespace bsbr {

/// The most threads that this Kokkos' host backend supports (512 with OpenMP). Kokkos does not check: with more it
/// writes past its tables.
int most_threads();

/// Calls Kokkos::initialize after checking the variables that it and OpenMP read: OMP_NUM_THREADS, OMP_THREAD_LIMIT,
/// KOKKOS_…
///
/// Threads: KOKKOS_NUM_THREADS, else OMP_NUM_THREADS, else the processors that this process may use, shared out evenly
/// over the `sharing` processes that may use the same ones, but never more than most_threads() or OMP_THREAD_LIMIT.
/// Disables Kokkos' warnings, unless KOKKOS_DISABLE_WARNINGS is set.
///
/// Returns a note for the user if processors stay idle because Kokkos supports no more threads, else an empty text.
/// Throws ConfigError that names the variable, its value and the rule; Kokkos has not been started then, and may be
/// later.
std::string initialize_kokkos(const std::string& program, int sharing = 1);

}  // namespace bsbr
