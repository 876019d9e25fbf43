// Functions that kernels call, too, in headers without Kokkos.
#pragma once

/// Marks a function for hosts and GPUs.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define BSBR_FUNCTION __host__ __device__
#else
#define BSBR_FUNCTION
#endif
