#include "build_info.hpp"

#include <Kokkos_Core.hpp>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/kokkos.hpp"
#include "bsbr/version.hpp"
#include "build_flags.hpp"
#include "environment.hpp"
#include "format.hpp"

namespace bsbr::apps {
namespace {

std::string execution_spaces() {
  std::vector<std::string> names{Execution::name()};
  for (const std::string name : {Kokkos::DefaultHostExecutionSpace::name(),
#ifdef KOKKOS_ENABLE_SERIAL
                                 Kokkos::Serial::name()
#endif
       }) {
    if (name != names.back()) names.push_back(name);
  }
  std::string text = names.front() + " (the default)";
  for (std::size_t i = 1; i < names.size(); ++i) text += ", " + names[i];
  return text;
}

}  // namespace

std::string version_line(const std::string& program) {
  return program + " " + version() + " (" + Execution::name() + ", Kokkos " + kokkos_version() + ", " + mpi_version() + ", HDF5 " +
         hdf5_version() + ")\n";
}

std::string build_info(const std::string& program) {
  const std::string type = build_type;
  return version_line(program) + row("commit", git_commit()) + row("compiler", build_compiler) +
         row("build type", type.empty() ? "none" : type) + row("flags", build_flags) + row("Kokkos", kokkos_version()) +
         row("execution", execution_spaces()) + row("threads", "at most " + show_count(most_threads()) + " per rank") +
         row("MPI", mpi_version()) + row("HDF5", hdf5_version()) + row("products", product_name());
}

}  // namespace bsbr::apps
