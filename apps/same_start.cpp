// Comparison of every rank with rank 0.
#include "same_start.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "bsbr/io.hpp"
#include "bsbr/version.hpp"
#include "environment.hpp"
#include "failure.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr::apps {
namespace {

std::string mpi_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING + 1> text{};
  int length = 0;
  parallel::check(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
  return text.data();
}

std::map<std::string, std::string> versions() {
  return {
      {"bsbr", version() + " of commit " + git_commit()}, {"HDF5", hdf5_version()}, {"Kokkos", kokkos_version()}, {"MPI", mpi_version()}};
}

/// Rank 0's value of what can be written as JSON, on all ranks.
template <class Value>
Value of_rank_0(const Value& mine, MPI_Comm comm) {
  std::string text = nlohmann::json(mine).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  parallel::broadcast(text, comm);
  return nlohmann::json::parse(text).get<Value>();
}

std::string at(const std::vector<std::string>& arguments, std::size_t index) {
  return index < arguments.size() ? "'" + arguments[index] + "'" : "missing";
}

}  // namespace

void require_same_start(MPI_Comm comm, const std::string& program, const std::vector<std::string>& arguments) {
  const auto first_program = of_rank_0(program, comm);
  const auto first_arguments = of_rank_0(arguments, comm);
  const auto mine = versions(), firsts = of_rank_0(mine, comm);
  const std::string here = "rank " + std::to_string(parallel::rank_in(comm));
  agree_on_usage(comm, [&] {
    if (program != first_program) throw UsageError(here + " runs " + program + ", rank 0 " + first_program);
    for (std::size_t i = 0; i < std::max(arguments.size(), first_arguments.size()); ++i) {
      const std::string own = at(arguments, i), first = at(first_arguments, i);
      if (own == first) continue;
      throw UsageError("the ranks were started with different arguments: number " + std::to_string(i + 1) + " is " + own + " on " + here +
                           ", " + first + " on rank 0",
                       "one command line for all ranks");
    }
  });
  parallel::agree(comm, [&] {
    for (const auto& [library, first] : firsts) {
      const std::string own = mine.count(library) > 0 ? mine.at(library) : "missing";
      if (own == first) continue;
      throw CommunicationError(
          "the ranks run with different versions of " + library + ": " + here + " with " + own + ", rank 0 with " + first,
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

}  // namespace bsbr::apps
