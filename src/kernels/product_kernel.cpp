// Which product kernels there are, and which of them this CPU runs.
#include "kernels/product_kernel.hpp"

#include <stdexcept>
#include <type_traits>

#if BSBR_X86_KERNELS
#include <cpuid.h>
#endif
#if BSBR_X86_KERNELS && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bsbr::kernels {

#define BSBR_DECLARE_KERNELS(instructions)                               \
  namespace instructions {                                               \
  extern const ProductKernel<float> kernel_of_float, kernel_of_bfloat16; \
  extern const ProductKernel<double> kernel_of_double;                   \
  }
BSBR_DECLARE_KERNELS(avx512)
BSBR_DECLARE_KERNELS(avx2)
BSBR_DECLARE_KERNELS(baseline)
namespace amx {
extern const ProductKernel<float> kernel_of_bfloat16;
}
namespace avx512_bf16 {
extern const ProductKernel<float> kernel_of_bfloat16;
}

namespace {

#if BSBR_X86_KERNELS
/// Whether Linux lets this process use the registers of AMX: it wants to be asked, since they make each thread's
/// context larger by 8 KiB.
[[maybe_unused]] bool may_use_amx() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int ask_for_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA: asm/prctl.h
  return ::syscall(SYS_arch_prctl, ask_for_permission, tile_data) == 0;
#else
  return false;
#endif
}

/// Whether the CPU has TDPBF16PS: leaf 7 of CPUID. Compilers older than Clang 19 know no name for it.
[[maybe_unused]] bool has_amx_bf16() {
  constexpr unsigned amx_bf16 = 1U << 22, amx_tile = 1U << 24;  // in EDX
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & amx_bf16) != 0 && (d & amx_tile) != 0;
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() { return __builtin_cpu_supports("avx512f"); }
#endif

std::vector<ProductKernel<float>> kernels_of_bfloat16() {
  std::vector<ProductKernel<float>> kernels;
#if BSBR_X86_KERNELS
  __builtin_cpu_init();
#if BSBR_BFLOAT16_KERNELS
  if (has_avx512() && has_amx_bf16() && may_use_amx()) kernels.push_back(amx::kernel_of_bfloat16);
  if (__builtin_cpu_supports("avx512bf16")) kernels.push_back(avx512_bf16::kernel_of_bfloat16);
#endif
  if (has_avx512()) kernels.push_back(avx512::kernel_of_bfloat16);
  if (has_avx2()) kernels.push_back(avx2::kernel_of_bfloat16);
#endif
  kernels.push_back(baseline::kernel_of_bfloat16);
  return kernels;
}

template <class Real>
const ProductKernel<Real>& of(const ProductKernel<float>& for_float, const ProductKernel<double>& for_double) {
  if constexpr (std::is_same_v<Real, float>) {
    return for_float;
  } else {
    return for_double;
  }
}

}  // namespace

template <class Real>
std::vector<ProductKernel<Real>> product_kernels(Rounding rounding) {
  if (rounding == Rounding::bfloat16) {
    if constexpr (std::is_same_v<Real, float>) return kernels_of_bfloat16();
    throw std::logic_error("products of bfloat16 have sums in float");
  }
  std::vector<ProductKernel<Real>> kernels;
#if BSBR_X86_KERNELS
  __builtin_cpu_init();
  if (has_avx512()) kernels.push_back(of<Real>(avx512::kernel_of_float, avx512::kernel_of_double));
  if (has_avx2()) kernels.push_back(of<Real>(avx2::kernel_of_float, avx2::kernel_of_double));
#endif
  kernels.push_back(of<Real>(baseline::kernel_of_float, baseline::kernel_of_double));
  return kernels;
}

template <class Real>
const ProductKernel<Real>& product_kernel(Rounding rounding) {
  static const ProductKernel<Real> fastest = product_kernels<Real>().front();
  if (rounding == Rounding::none) return fastest;
  static const ProductKernel<Real> of_bfloat16 = product_kernels<Real>(Rounding::bfloat16).front();
  return of_bfloat16;
}

template std::vector<ProductKernel<float>> product_kernels<float>(Rounding);
template std::vector<ProductKernel<double>> product_kernels<double>(Rounding);
template const ProductKernel<float>& product_kernel<float>(Rounding);
template const ProductKernel<double>& product_kernel<double>(Rounding);

}  // namespace bsbr::kernels
