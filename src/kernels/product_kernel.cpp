// Which product kernels there are, and which of them this CPU runs.
#include "kernels/product_kernel.hpp"

#include <type_traits>

namespace bsbr::kernels {

#define BSBR_DECLARE_KERNELS(instructions)             \
  namespace instructions {                             \
  extern const ProductKernel<float> kernel_of_float;   \
  extern const ProductKernel<double> kernel_of_double; \
  }
BSBR_DECLARE_KERNELS(avx512)
BSBR_DECLARE_KERNELS(avx2)
BSBR_DECLARE_KERNELS(baseline)

namespace {

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
std::vector<ProductKernel<Real>> product_kernels() {
  std::vector<ProductKernel<Real>> kernels;
#if BSBR_X86_KERNELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) kernels.push_back(of<Real>(avx512::kernel_of_float, avx512::kernel_of_double));
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    kernels.push_back(of<Real>(avx2::kernel_of_float, avx2::kernel_of_double));
#endif
  kernels.push_back(of<Real>(baseline::kernel_of_float, baseline::kernel_of_double));
  return kernels;
}

template <class Real>
const ProductKernel<Real>& product_kernel() {
  static const ProductKernel<Real> fastest = product_kernels<Real>().front();
  return fastest;
}

template std::vector<ProductKernel<float>> product_kernels<float>();
template std::vector<ProductKernel<double>> product_kernels<double>();
template const ProductKernel<float>& product_kernel<float>();
template const ProductKernel<double>& product_kernel<double>();

}  // namespace bsbr::kernels
