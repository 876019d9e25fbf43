// The product kernel for AVX-512 with VDPBF16PS: CMake gives this file the flags.
#include <immintrin.h>

#include "kernels/product_pairs.hpp"

namespace bsbr::kernels::avx512_bf16 {
namespace {

struct Pairs {
  using Sums = __m512;
  using Row = __m512bh;

  [[gnu::always_inline]] static Row load(const void* from) { return __builtin_bit_cast(Row, _mm512_loadu_si512(from)); }
  [[gnu::always_inline]] static Row repeat(std::uint32_t pair) {
    return __builtin_bit_cast(Row, _mm512_set1_epi32(static_cast<int>(pair)));
  }
  [[gnu::always_inline]] static Sums load_sums(const float* from) { return _mm512_loadu_ps(from); }
  [[gnu::always_inline]] static void store_sums(float* to, Sums sums) { _mm512_storeu_ps(to, sums); }
  [[gnu::always_inline]] static Sums dot(Sums sums, Row a, Row b) { return _mm512_dpbf16_ps(sums, a, b); }
};

}  // namespace

extern const ProductKernel<float> kernel_of_bfloat16;
const ProductKernel<float> kernel_of_bfloat16 = PairTiles<Pairs, 6, 4>::kernel("avx512_bf16");

}  // namespace bsbr::kernels::avx512_bf16
