# What every target of this project is compiled with.
add_library(bsbr_options INTERFACE)
target_compile_features(bsbr_options INTERFACE cxx_std_20)
target_compile_options(bsbr_options INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion)
# -ffp-contract=fast: chains of multiply-add keep their bits wherever they are compiled only if contraction does not depend on the language mode.
# The others change no result: nobody looks at floating-point exceptions or errno, and loops with a select (GELU, softmax) vectorise only if
# the compiler may compute what it then throws away.
target_compile_options(bsbr_options INTERFACE -ffp-contract=fast -fno-trapping-math -fno-math-errno)
# Tuned for some CPUs GCC contracts no longer chains, which are what products are: slower here, and other bits where a chain is compiled
# once more for other sizes.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(bsbr_options INTERFACE --param=avoid-fma-max-bits=0)
endif()
# GCC 12 sees overlaps where strings are joined that cannot be (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(bsbr_options INTERFACE -Wno-restrict)
endif()
if(BSBR_WARNINGS_AS_ERRORS)
  target_compile_options(bsbr_options INTERFACE -Werror)
endif()
if(BSBR_NATIVE)
  target_compile_options(bsbr_options INTERFACE -march=native)
  # Tuned for Intel's CPUs with AVX-512, compilers use half a vector in loops of rows, to spare the clock, which products lower anyway.
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS -march=native)
  check_cxx_source_compiles("#ifndef __AVX512F__\n#error\n#endif\nint main() {}" BSBR_NATIVE_AVX512)
  unset(CMAKE_REQUIRED_FLAGS)
  if(BSBR_NATIVE_AVX512)
    target_compile_options(bsbr_options INTERFACE -mprefer-vector-width=512)
  endif()
endif()
if(BSBR_DEVICE_BODIES)
  target_compile_definitions(bsbr_options INTERFACE BSBR_DEVICE_BODIES)
endif()
if(BSBR_BOUNDS_CHECK)
  target_compile_definitions(bsbr_options INTERFACE KOKKOS_ENABLE_DEBUG_BOUNDS_CHECK)
endif()
if(BSBR_POISON)
  target_compile_definitions(bsbr_options INTERFACE BSBR_POISON)
endif()
