# Finds HDF5, serial or parallel: the library does its parallel writing itself and calls nothing of HDF5's that needs MPI. A parallel HDF5 must
# be the one of this MPI, since its header includes mpi.h; it is taken first, as centres and distributions have it beside their MPI. The installed
# package searches in the same way.
if(NOT DEFINED HDF5_PREFER_PARALLEL)
  set(HDF5_PREFER_PARALLEL ON)
endif()

# CMake asks HDF5's compiler wrapper, which cannot compile where the path has a space, a quote or a parenthesis. CMake then searches folders, and
# pkg-config knows which: without its answer Debian's HDF5, whose folders have the name of an MPI, would not be found.
set(bsbr_hdf5_needs_folders OFF)
if(CMAKE_CURRENT_BINARY_DIR MATCHES "[ '\"()&;$`]" AND NOT HDF5_ROOT AND NOT DEFINED ENV{HDF5_ROOT})
  set(bsbr_hdf5_needs_folders ON)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    if(HDF5_PREFER_PARALLEL)
      pkg_search_module(bsbr_hdf5 QUIET hdf5)
    else()
      pkg_search_module(bsbr_hdf5 QUIET hdf5-serial hdf5)
    endif()
    list(APPEND CMAKE_INCLUDE_PATH ${bsbr_hdf5_INCLUDE_DIRS})
    list(APPEND CMAKE_LIBRARY_PATH ${bsbr_hdf5_LIBRARY_DIRS})
  endif()
endif()

find_package(HDF5 QUIET COMPONENTS C)
if(NOT HDF5_FOUND AND bsbr_hdf5_needs_folders)
  message(FATAL_ERROR "HDF5 was not found. The path of the build folder, ${CMAKE_CURRENT_BINARY_DIR}, has a space, a quote or a parenthesis, with "
                      "which HDF5's compiler wrapper cannot compile. Build in another folder, or name HDF5's with -DHDF5_ROOT=…")
elseif(NOT HDF5_FOUND)
  message(FATAL_ERROR "HDF5 was not found. Name its prefix with -DHDF5_ROOT=… (Debian: libhdf5-openmpi-dev, or libhdf5-dev for a serial one).")
endif()
set(bsbr_hdf5_kind serial)
if(HDF5_IS_PARALLEL)
  set(bsbr_hdf5_kind parallel)
endif()
