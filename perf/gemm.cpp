#include "gemm.hpp"

#include <dlfcn.h>

#include <KokkosBlas3_gemm.hpp>
#include <Kokkos_Core.hpp>
#include <Kokkos_Timer.hpp>
#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "blas_kernel.hpp"
#include "forward.hpp"
#include "kernels/backend.hpp"

namespace bsbr::perf {
namespace {

using Matrix = Array<float**>;

/// cuBLAS, if there is one. It has hundreds of megabytes and is looked for only when a benchmark runs, so that one that
/// was built without it, or went to a machine without it, measures the rest all the same. Types are those of its C
/// interface: a handle is a pointer, a status and an operation are numbers.
class Cublas {
 public:
  static const Cublas* find() {
    static const Cublas instance;
    return instance.m_handle != nullptr ? &instance : nullptr;
  }
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  int version() const { return m_version; }

  /// c [rows, out] = a [rows, in] · bᵀ, b [out, in]: what is row by row here is column by column there, and transposed.
  void multiply(const Matrix& a, const Matrix& b, const Matrix& c) const {
    const float one = 1, zero = 0;
    const int out = static_cast<int>(b.extent(0)), rows = static_cast<int>(a.extent(0)),
              in = static_cast<int>(a.extent(1));
    constexpr int as_it_is = 0, transposed = 1;
    if (m_sgemm(m_handle, transposed, as_it_is, out, rows, in, &one, b.data(), in, a.data(), in, &zero, c.data(),
                out) != 0) {
      throw std::runtime_error("cuBLAS refuses a product");
    }
  }

 private:
  using Create = int (*)(void**);
  using GetVersion = int (*)(void*, int*);
  using Sgemm = int (*)(void*, int, int, int, int, int, const float*, const float*, int, const float*, int,
                        const float*, float*, int);

  /// The handle lives as long as the process: what it holds on the GPU goes with it.
  Cublas() {
    void* library = nullptr;
    for (const char* name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"}) {
      if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) return;
    const auto create = reinterpret_cast<Create>(dlsym(library, "cublasCreate_v2"));
    const auto get_version = reinterpret_cast<GetVersion>(dlsym(library, "cublasGetVersion_v2"));
    m_sgemm = reinterpret_cast<Sgemm>(dlsym(library, "cublasSgemm_v2"));
    if (create == nullptr || get_version == nullptr || m_sgemm == nullptr) return;
    if (create(&m_handle) != 0 || get_version(m_handle, &m_version) != 0) m_handle = nullptr;
  }

  void* m_handle = nullptr;
  Sgemm m_sgemm = nullptr;
  int m_version = 0;
};

const Cublas* cublas() { return kernels::on_cuda ? Cublas::find() : nullptr; }

}  // namespace

double gemm_rate(std::int64_t rows, std::int64_t out, std::int64_t in, int runs) {
  const Matrix a("a", rows, in), b("b", out, in), c("c", rows, out);
  Kokkos::deep_copy(a, 0.5F);
  Kokkos::deep_copy(b, 0.25F);
  std::vector<double> rates;
  for (int run = 0; run <= runs; ++run) {
    const Kokkos::Timer timer;
    if (cublas() != nullptr) {
      cublas()->multiply(a, b, c);
    } else {
      KokkosBlas::gemm("N", "T", 1.0F, a, b, 0.0F, c);
    }
    Kokkos::fence();
    if (run > 0) rates.push_back(2.0 * static_cast<double>(rows * out * in) / timer.seconds());
  }
  return median(rates);
}

double sgemm_rate() {
  const char* size = std::getenv("BSBR_SGEMM_SIZE");
  const std::int64_t n = size != nullptr ? std::max(1, std::atoi(size)) : 2048;
  return gemm_rate(n, n, n);
}

std::string gemm_name() {
  if constexpr (!kernels::on_cuda) return blas_name();
  return cublas() != nullptr ? "cuBLAS " + std::to_string(cublas()->version())
                             : "Kokkos Kernels, as no cuBLAS was found";
}

}  // namespace bsbr::perf
