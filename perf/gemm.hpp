// The matrix product that kernels and forwards are held against: that of the vendor's BLAS.
#pragma once

#include <cstdint>
#include <string>

namespace bsbr::perf {

/// FLOPs a second of [rows, in] · [out, in]ᵀ in float with all threads or the whole GPU: median of `runs` after one to
/// warm up.
double gemm_rate(std::int64_t rows, std::int64_t out, std::int64_t in, int runs = 5);

/// Those of sgemm 2048³; BSBR_SGEMM_SIZE is another size for where a BLAS is so slow that nothing is to be learnt from
/// it.
double sgemm_rate();

/// Whose product that is: with CUDA that of the cuBLAS which is found when the program runs, elsewhere that of Kokkos
/// Kernels' BLAS.
std::string gemm_name();

}  // namespace bsbr::perf
