// What a program was built from and with.
#include "harness/job/build_info.hpp"

#include <mpi.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/kokkos.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/version.hpp"
#include "build_flags.hpp"
#include "harness/format.hpp"
#include "kernels/backend.hpp"
#include "kernels/device_product.hpp"
#include "kernels/instructions.hpp"
#include "kernels/product_kernel.hpp"

namespace bsbr::harness {
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

std::string mpi_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING + 1> text{};
  int length = 0;
  parallel::check(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
  std::string name = text.data();  // what follows is of the build
  name.resize(std::min(name.size(), name.find_first_of(",\n")));
  std::replace(name.begin(), name.end(), '\t', ' ');
  return name;
}

std::string product_name(Rounding rounding) {
  if constexpr (kernels::on_host) return std::string("bsbr ") + kernels::product_kernel<float>(rounding).name;
  if constexpr (kernels::on_cuda) return kernels::tf32_products() ? "cublasLt, floats as TF32" : "cublasLt";
  return std::string("the BLAS of ") + Execution::name();
}

std::string kokkos_version() {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%d.%d.%02d", KOKKOS_VERSION / 10000, KOKKOS_VERSION / 100 % 100,
                KOKKOS_VERSION % 100);
  return text.data();
}

std::string version_line(const std::string& program) {
  return program + " " + version() + " (" + Execution::name() + ", Kokkos " + kokkos_version() + ", " + mpi_version() +
         ", HDF5 " + hdf5_version() + ")\n";
}

std::string build_info(const std::string& program) {
  const std::string type = build_type;
  return version_line(program) + row("commit", git_commit()) + row("compiler", build_compiler) +
         row("build type", type.empty() ? "none" : type) + row("flags", build_flags) + row("Kokkos", kokkos_version()) +
         row("execution", execution_spaces()) + row("threads", "at most " + show_count(most_threads()) + " per rank") +
         row("MPI", mpi_version()) + row("HDF5", hdf5_version()) + row("products", product_name()) +
         row("vectors", kernels::instructions());
}

}  // namespace bsbr::harness
