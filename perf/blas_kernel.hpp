// The BLAS whose sgemm is the limit that everything is held against, and a way around one that picks slow kernels.
#pragma once

#include <string>

namespace bsbr::perf {

/// To be called first in main. OpenBLAS chooses its kernels when it is loaded, by a list of CPU models or by
/// OPENBLAS_CORETYPE, and they may be several times slower than the CPU allows. Where that has happened, names the
/// right ones in the environment and starts the program again, once: the limit is the best that there is. Costs a
/// millisecond, or nothing.
void use_fast_blas_kernels(char** argv);

/// "OpenBLAS SkylakeX"; the name alone of another BLAS; "unknown".
std::string blas_name();

}  // namespace bsbr::perf
