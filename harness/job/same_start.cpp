// Comparison of every rank with rank 0.
#include "harness/job/same_start.hpp"

#include <algorithm>

#include "bsbr/io.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/version.hpp"
#include "harness/job/build_info.hpp"
#include "harness/job/failure.hpp"

namespace bsbr::harness {
namespace {

std::vector<std::string> versions() {
  return {"bsbr " + version() + " of commit " + git_commit(), "HDF5 " + hdf5_version(), "Kokkos " + kokkos_version(),
          mpi_version()};
}

/// Rank 0's list, on all ranks.
std::vector<std::string> of_rank_0(std::vector<std::string> texts, MPI_Comm comm) {
  auto count = static_cast<std::int64_t>(texts.size());
  parallel::broadcast(&count, sizeof count, comm);
  texts.resize(static_cast<std::size_t>(count));
  for (std::string& text : texts) parallel::broadcast(text, comm);
  return texts;
}

std::string at(const std::vector<std::string>& arguments, std::size_t index) {
  return index < arguments.size() ? "'" + arguments[index] + "'" : "missing";
}

}  // namespace

void require_same_start(MPI_Comm comm, const std::string& program, const std::vector<std::string>& arguments) {
  const std::string first_program = of_rank_0({program}, comm).front();
  const auto first_arguments = of_rank_0(arguments, comm);
  const auto own_versions = versions(), first_versions = of_rank_0(own_versions, comm);
  const std::string here = "rank " + std::to_string(parallel::rank_in(comm));
  agree_on_usage(comm, [&] {
    if (program != first_program) throw UsageError(here + " runs " + program + ", rank 0 " + first_program);
    for (std::size_t i = 0; i < std::max(arguments.size(), first_arguments.size()); ++i) {
      const std::string own = at(arguments, i), first = at(first_arguments, i);
      if (own == first) continue;
      throw UsageError("the ranks were started with different arguments: number " + std::to_string(i + 1) + " is " +
                           own + " on " + here + ", " + first + " on rank 0",
                       "one command line for all ranks");
    }
  });
  parallel::agree(comm, [&] {
    for (std::size_t i = 0; i < first_versions.size(); ++i) {
      if (i < own_versions.size() && own_versions[i] == first_versions[i]) continue;
      throw CommunicationError("the ranks run with different versions: " + here + " with " + at(own_versions, i) +
                                   ", rank 0 with " + at(first_versions, i),
                               "install the same program on all nodes");
    }
  });
}

void agree_on_usage(MPI_Comm comm, const std::function<void()>& work) {
  try {
    parallel::agree(comm, work);
  } catch (const ConfigError& error) {
    throw UsageError(error.what(), error.hint());
  }
}

}  // namespace bsbr::harness
