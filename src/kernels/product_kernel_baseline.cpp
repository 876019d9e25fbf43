// The product kernel for what the library is compiled for.
#define BSBR_INSTRUCTIONS baseline
#include "kernels/product_tile.hpp"
