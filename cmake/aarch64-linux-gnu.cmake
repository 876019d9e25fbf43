# The toolchain of scripts/check-arm: Debian's cross compiler for AArch64, and QEMU, which runs the tests. The script
# makes the folders that are named here: a root folder with the libraries of such a machine, and a Kokkos.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

get_filename_component(bsbr_arm "${CMAKE_CURRENT_LIST_DIR}/../build/arm" ABSOLUTE)
set(CMAKE_SYSROOT "${bsbr_arm}/sysroot")
set(CMAKE_FIND_ROOT_PATH "${bsbr_arm}/dependencies")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind IN ITEMS LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()

# Compiler wrappers of MPI and HDF5 know the libraries of the machine that they run on, as does pkg-config: folders are
# named instead.
set(bsbr_libraries "/usr/lib/aarch64-linux-gnu")
set(ENV{PKG_CONFIG_LIBDIR} "${CMAKE_SYSROOT}${bsbr_libraries}/pkgconfig")
set(MPI_SKIP_COMPILER_WRAPPER ON)
set(MPI_CXX_SKIP_MPICXX ON)
foreach(language IN ITEMS C CXX)
  set(MPI_${language}_HEADER_DIR "${CMAKE_SYSROOT}${bsbr_libraries}/openmpi/include" CACHE PATH "")
  set(MPI_${language}_LIB_NAMES mpi CACHE STRING "")
endforeach()
set(MPI_mpi_LIBRARY "${CMAKE_SYSROOT}${bsbr_libraries}/openmpi/lib/libmpi.so" CACHE FILEPATH "")
set(HDF5_ROOT "${bsbr_libraries}/hdf5/openmpi")

# QEMU is the CPU that $QEMU_CPU names. mpirun is this machine's own, and starts a QEMU for each rank.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L "${CMAKE_SYSROOT}")
set(MPIEXEC_PREFLAGS "${CMAKE_CROSSCOMPILING_EMULATOR}" CACHE STRING "")
