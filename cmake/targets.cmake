# What every target of this project is compiled with.
add_library(bsbr_options INTERFACE)
target_compile_features(bsbr_options INTERFACE cxx_std_20)
# Chains of multiply-add keep their bits wherever they are compiled only if contraction does not depend on the language mode.
target_compile_options(bsbr_options INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -ffp-contract=fast)
# GCC 12 sees overlaps where strings are joined that cannot be (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(bsbr_options INTERFACE -Wno-restrict)
endif()
if(BSBR_WARNINGS_AS_ERRORS)
  target_compile_options(bsbr_options INTERFACE -Werror)
endif()
if(BSBR_NATIVE)
  target_compile_options(bsbr_options INTERFACE -march=native)
endif()
