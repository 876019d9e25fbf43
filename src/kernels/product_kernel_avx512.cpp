// The product kernel for AVX-512: CMake gives this file the flags.
#define BSBR_INSTRUCTIONS avx512
#include "kernels/product_tile.hpp"
