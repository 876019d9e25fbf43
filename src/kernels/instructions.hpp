// For which vector instructions the library's kernels are compiled, the big products apart: those choose when the
// program runs (product_kernel.hpp).
#pragma once

namespace bsbr::kernels {

/// "AVX-512", "AVX2", "SSE2", …: of the library that the program has been given.
const char* instructions();

}  // namespace bsbr::kernels
