// The BLAS that runs the matrix products, and a way around one that picks slow kernels.
#pragma once

#include <string>

namespace bsbr::apps {

/// To be called first in main. OpenBLAS chooses its kernels when it is loaded, by a list of CPU models; on a CPU newer than that list it
/// falls back to kernels that are several times slower than the CPU allows. Where that has happened, names the right kernels in the
/// environment and starts the program again, once. Whoever sets OPENBLAS_CORETYPE decides instead. Costs a millisecond, or nothing.
void use_fast_blas_kernels(char** argv);

/// To be called before any product. Every product of the library is one call on one thread (docs/architecture.md, "The same bits"). An
/// OpenBLAS that shares each call out over threads of its own is told not to; the OpenMP flavour keeps to its thread in a parallel region
/// of itself.
void keep_blas_to_one_thread();

/// "OpenBLAS SkylakeX"; the name alone of another BLAS; "unknown".
std::string blas_name();

/// What is wrong with the kernels that run, empty if nothing is: "slower than this CPU allows".
std::string blas_complaint();

}  // namespace bsbr::apps
