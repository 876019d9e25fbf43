// What a run stands on: for summaries, and as provenance in result files.
#pragma once

#include <string>

#include "bsbr/io.hpp"

namespace bsbr::apps {

struct ForwardOptions;

struct Environment {
  std::string version, git_commit, kokkos_version, execution_space;
  std::string blas;  ///< what multiplies matrices: "bsbr avx512", the library's own kernel; on a GPU its vendor's BLAS
  int ranks = 1, threads_per_rank = 1;
};

/// "3.4.01", as Kokkos' releases are called.
std::string kokkos_version();

/// Kokkos must be set up.
Environment find_environment(int ranks);

/// "2 ranks of 1 thread, OpenMP, float, bsbr avx512"
std::string describe(const Environment& environment, Precision precision);

/// The time in UTC, as ISO 8601 writes it.
std::string utc_now();

/// The processor's name as Linux tells it; empty if it does not.
std::string processor_name();

/// The attributes of a result file: the environment, where model and ids come from, and when it was made.
Attributes provenance(const Environment& environment, const ForwardOptions& options);

}  // namespace bsbr::apps
