// What a run stands on: versions, hosts, processors.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bsbr/io.hpp"
#include "environment/placement.hpp"

namespace bsbr::harness {
class Runtime;
}

namespace bsbr::apps {

struct Environment {
  std::string version, git_commit, kokkos_version, hdf5_version, mpi_version, execution_space;
  std::string gemm;  ///< what multiplies matrices: "bsbr avx512", the library's own kernel; on a GPU its vendor's BLAS
  std::string processor;  ///< of rank 0, as Linux names it; empty if it does not
  std::string job_id;     ///< as the batch system calls it; empty where there is none
  int ranks = 1, threads_per_rank = 1;

  // Known to rank 0 only.
  std::vector<Place> places;       ///< of each rank
  std::vector<std::string> notes;  ///< what is probably unintended about them: one line each
};

/// Collective. Kokkos must be set up. precision: that of the run, whose products are named.
Environment find_environment(const harness::Runtime& runtime, Precision precision);

/// "2 ranks of 1 thread, OpenMP, float, bsbr avx512"
std::string describe(const Environment& environment, Precision precision);

/// Rows of a summary: hosts and processor, the job, and the notes.
std::string environment_rows(const Environment& environment);

/// The fields of a JSON summary that say what it ran on and was built from.
void add_environment(nlohmann::ordered_json& json, const Environment& environment);

/// The time in UTC, as ISO 8601 writes it.
std::string utc_now();

}  // namespace bsbr::apps
