// The product kernel for AMX with TDPBF16PS, and AVX-512, which each CPU with AMX has, for rounding: CMake gives this
// file the flags. The instructions by their names, since GCC's intrinsics are macros that want digits for registers.
#include "kernels/product_matrices.hpp"

namespace bsbr::kernels::amx {
namespace {

/// What LDTILECFG reads: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, 18.3.
struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(Configuration) == 64);

struct Registers {
  static void configure(RegisterRows rows) {
    Configuration wanted;
    const int of_register[8] = {rows.upper, rows.upper, rows.lower, rows.lower, rows.upper, rows.lower, 16, 16};
    for (int i = 0; i < 8; ++i) {
      wanted.row_bytes[i] = 64;
      wanted.rows[i] = static_cast<std::uint8_t>(of_register[i]);
    }
    asm volatile("ldtilecfg %0" ::"m"(wanted));
  }
  static void release() { asm volatile("tilerelease"); }

  template <int r>
  [[gnu::always_inline]] static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(r));
  }
  template <int r>
  [[gnu::always_inline]] static void load(const void* from, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(r) : "memory");
  }
  template <int r>
  [[gnu::always_inline]] static void store(void* to, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(r) : "memory");
  }
  template <int c, int a, int b>
  [[gnu::always_inline]] static void dot() {
    asm volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" ::"i"(b), "i"(a), "i"(c));
  }
};

}  // namespace

extern const ProductKernel<float> kernel_of_bfloat16;
const ProductKernel<float> kernel_of_bfloat16 = MatrixTiles<Registers>::kernel("amx");

}  // namespace bsbr::kernels::amx
