# Finds what the library stands on. CONTRIBUTING.md says why each is needed.
include(cmake/cached_dependencies.cmake)
find_package(Kokkos 3.4 REQUIRED CONFIG HINTS ${bsbr_cached_dependencies})
find_package(KokkosKernels 3.4 REQUIRED CONFIG HINTS ${bsbr_cached_dependencies})
find_package(MPI REQUIRED COMPONENTS C CXX)

# Parallel HDF5, and the one of this MPI: a serial one is refused here rather than by a confusing error while compiling.
set(HDF5_PREFER_PARALLEL ON)
find_package(HDF5 REQUIRED COMPONENTS C)
if(NOT HDF5_IS_PARALLEL)
  message(FATAL_ERROR "The HDF5 that was found (${HDF5_VERSION}, ${HDF5_C_INCLUDE_DIRS}) is serial; bsbr wants the one of its MPI. "
                      "Name a parallel one with -DHDF5_ROOT=… (Debian: libhdf5-openmpi-dev).")
endif()

if(BSBR_ENABLE_PROGRAMS)
  find_package(CLI11 REQUIRED CONFIG)
endif()
if(BSBR_ENABLE_PROGRAMS OR BSBR_ENABLE_TESTS)
  find_package(nlohmann_json 3.7 REQUIRED CONFIG)
endif()
if(BSBR_ENABLE_TESTS)
  find_package(GTest REQUIRED)
endif()
