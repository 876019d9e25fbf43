// bfloat16: the upper half of a float.
//
// All functions are inlined always, as those of vectors.hpp, and without Kokkos' macros, which the product kernels do
// not have.
#pragma once

#include <cstdint>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define BSBR_BFLOAT16_FUNCTION __host__ __device__ __forceinline__
#else
#define BSBR_BFLOAT16_FUNCTION [[gnu::always_inline]] inline
#endif

namespace bsbr::kernels {

/// The bits of a float, rounded to nearest, ties to even, such that the lower half is 0. What is too large for bfloat16
/// becomes infinite; NaN stays NaN. Bits: std::uint32_t, or a vector of them.
template <class Bits>
BSBR_BFLOAT16_FUNCTION Bits bits_as_bfloat16(Bits bits) {
  const auto is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
  const Bits rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
  return (is_nan ? bits | 0x400000U : rounded) & 0xffff0000U;
}

/// The nearest number that bfloat16 has.
BSBR_BFLOAT16_FUNCTION float as_bfloat16(float number) {
  return __builtin_bit_cast(float, bits_as_bfloat16(__builtin_bit_cast(std::uint32_t, number)));
}

}  // namespace bsbr::kernels
