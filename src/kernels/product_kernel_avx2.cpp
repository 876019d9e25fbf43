// The product kernel for AVX2 and FMA: CMake gives this file the flags.
#define BSBR_INSTRUCTIONS avx2
#include "kernels/product_tile.hpp"
