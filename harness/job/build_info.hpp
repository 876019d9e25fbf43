// What a program was built from and with, for bug reports.
#pragma once

#include <string>

#include "bsbr/rounding.hpp"

namespace bsbr::harness {

/// "3.4.01", as Kokkos' releases are called.
std::string kokkos_version();

/// "Open MPI v4.1.4": the name and version of the MPI library, which need not be initialised.
std::string mpi_version();

/// What multiplies matrices: "bsbr avx512", the library's own kernel; on a GPU its vendor's BLAS.
std::string product_name(Rounding rounding = Rounding::none);

/// "bsbr_forward 0.1.0+g1a2b3c4 (OpenMP, Kokkos 3.4.01, Open MPI v4.1.4, HDF5 1.10.8)". Needs neither MPI nor Kokkos
/// set up, as the other.
std::string version_line(const std::string& program);

/// Several lines: compiler, flags, and the libraries with their versions.
std::string build_info(const std::string& program);

}  // namespace bsbr::harness
