# The library once more for each level of x86-64's instructions: AVX2 (v3), AVX-512 (v4). They lie in glibc-hwcaps below the folder of libbsbr.so,
# where glibc's dynamic linker (2.33 or newer) looks first for the best level that the CPU has. So attention, norms and the rest use the CPU's
# vectors in a package for any CPU, and the code knows nothing of it. Without such a linker programs get libbsbr.so itself.
set(BSBR_LEVELS)
if(NOT BSBR_CPU_LEVELS)
  return()
endif()
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-march=x86-64-v4 BSBR_COMPILES_LEVELS)
if(NOT BSBR_COMPILES_LEVELS OR NOT CMAKE_SYSTEM_NAME STREQUAL "Linux" OR "${Kokkos_DEVICES}" MATCHES "CUDA|HIP")
  message(STATUS "bsbr: no levels of instructions here: they are those of x86-64 on Linux, without a GPU, by GCC 11 or Clang 12 or newer")
  return()
endif()
if(NOT BUILD_SHARED_LIBS)
  message(FATAL_ERROR "BSBR_CPU_LEVELS is of use in a shared library only. Add -DBUILD_SHARED_LIBS=ON, or -DBSBR_CPU_LEVELS=OFF.")
endif()
if(BSBR_NATIVE)
  message(FATAL_ERROR "BSBR_NATIVE compiles for one CPU, BSBR_CPU_LEVELS for many. Turn one of them off.")
endif()

# Headers of kernels have other sizes in each of the libraries, so each must call its own functions, not those of the same name in a program.
target_link_options(bsbr PRIVATE -Wl,-Bsymbolic-functions)
foreach(level IN ITEMS x86-64-v3 x86-64-v4)
  set(library bsbr_${level})
  bsbr_add_library(${library} SHARED)
  target_compile_options(${library} PRIVATE -march=${level})
  target_link_options(${library} PRIVATE -Wl,-Bsymbolic-functions)
  set_target_properties(${library} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "$<TARGET_FILE_DIR:bsbr>/glibc-hwcaps/${level}")
  add_dependencies(bsbr ${library}) # whoever builds a program that is linked with bsbr runs it with one of these
  list(APPEND BSBR_LEVELS ${level})
endforeach()
set(BSBR_LEVELS ${BSBR_LEVELS} PARENT_SCOPE)
