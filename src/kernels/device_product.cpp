// The call of the BLAS.
#include "kernels/device_product.hpp"

#ifdef KOKKOS_ENABLE_CUDA
#include <cublasLt.h>

#include <array>
#include <map>
#include <mutex>
#else
#include <KokkosBlas3_gemm.hpp>
#endif

#include "bsbr/error.hpp"
#include "config/environment_switch.hpp"

namespace bsbr::kernels {

bool tf32_products() {
  static const bool on = environment_switch("BSBR_TF32").value_or(false);
  return on;
}

namespace {

#ifdef KOKKOS_ENABLE_CUDA

void require_cublas(cublasStatus_t status, const char* step) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(std::string("a matrix product failed on the GPU: ") + step + " says " + cublasLtGetStatusString(status));
}

template <class Real>
inline constexpr cudaDataType_t cublas_type = std::is_same_v<Real, float> ? CUDA_R_32F : CUDA_R_64F;

/// How numbers of this type are multiplied and added up.
cublasComputeType_t compute_type(cudaDataType_t type) {
  if (type == CUDA_R_64F) return CUBLAS_COMPUTE_64F;
  return tf32_products() ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/// The largest power of two that divides an address, as far as cublasLt asks: weights lie one after the other, at any
/// number.
std::uint32_t alignment(const void* address) {
  constexpr std::uintptr_t most = 256;
  const auto number = reinterpret_cast<std::uintptr_t>(address) | most;
  return static_cast<std::uint32_t>(number & (~number + 1));
}

/// All that the choice of an algorithm depends on.
struct CublasProblem {
  cudaDataType_t type;
  BlasMatrices matrices;
  std::array<std::uint32_t, 3> alignments;  // of a, b and c, in bytes

  auto operator<=>(const CublasProblem&) const = default;
};

/// A product as cublasLt wants it described, and the algorithm that it suggests for it.
class CublasPlan {
 public:
  CublasPlan(cublasLtHandle_t handle, const CublasProblem& problem) {
    require_cublas(cublasLtMatmulDescInit(&m_product, compute_type(problem.type), problem.type),
                   "cublasLtMatmulDescInit");
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSA, problem.matrices.of_a);
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSB, problem.matrices.of_b);
    describe(m_a, problem.type, problem.matrices.a);
    describe(m_b, problem.type, problem.matrices.b);
    describe(m_c, problem.type, problem.matrices.c);
    choose(handle, problem.alignments);
  }
  CublasPlan(const CublasPlan&) = delete;  // cublasLt does not say that its descriptions may be copied
  CublasPlan& operator=(const CublasPlan&) = delete;

  template <class Real>
  void run(cublasLtHandle_t handle, cudaStream_t stream, const MatrixProduct<Real>& of,
           const ProductWorkspace& workspace) {
    const Real one = 1, kept = of.add ? 1 : 0;
    require_cublas(cublasLtMatmul(handle, &m_product, &one, of.right.data, &m_a, of.left.data, &m_b, &kept, of.product,
                                  &m_c, of.product, &m_c, &m_algorithm, workspace.data(), workspace.size(), stream),
                   "cublasLtMatmul");
  }

 private:
  static void describe(cublasLtMatrixLayoutOpaque_t& layout, cudaDataType_t type, const ColumnMajor& matrix) {
    require_cublas(cublasLtMatrixLayoutInit(&layout, type, static_cast<std::uint64_t>(matrix.rows),
                                            static_cast<std::uint64_t>(matrix.columns), matrix.rows),
                   "cublasLtMatrixLayoutInit");
  }

  void set_transpose(cublasLtMatmulDescAttributes_t which, Transpose transpose) {
    const cublasOperation_t operation = transpose == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N;
    require_cublas(cublasLtMatmulDescSetAttribute(&m_product, which, &operation, sizeof operation),
                   "cublasLtMatmulDescSetAttribute");
  }

  void choose(cublasLtHandle_t handle, const std::array<std::uint32_t, 3>& alignments) {
    cublasLtMatmulPreferenceOpaque_t preference{};
    require_cublas(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
      require_cublas(cublasLtMatmulPreferenceSetAttribute(&preference, which, &value, sizeof value),
                     "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{tuning::product_workspace_bytes});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments[0]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments[1]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments[2]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments[2]);
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    require_cublas(
        cublasLtMatmulAlgoGetHeuristic(handle, &m_product, &m_a, &m_b, &m_c, &m_c, &preference, 1, &best, &found),
        "cublasLtMatmulAlgoGetHeuristic");
    require_cublas(found == 1 ? best.state : CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
    m_algorithm = best.algo;
  }

  cublasLtMatmulDescOpaque_t m_product{};
  cublasLtMatrixLayoutOpaque_t m_a{}, m_b{}, m_c{};
  cublasLtMatmulAlgo_t m_algorithm{};
};

/// cublasLt on the device of this process, from the first product to Kokkos::finalize.
class CublasLt {
 public:
  static CublasLt& of_this_process() {
    static CublasLt* const instance = [] {
      auto* created = new CublasLt;
      Kokkos::push_finalize_hook([created] { delete created; });
      return created;
    }();
    return *instance;
  }
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;
  ~CublasLt() { cublasLtDestroy(m_handle); }

  template <class Real>
  void multiply(cudaStream_t stream, const MatrixProduct<Real>& of, const ProductWorkspace& workspace) {
    const std::lock_guard lock(m_mutex);
    plan({cublas_type<Real>, of.for_blas(), {alignment(of.right.data), alignment(of.left.data), alignment(of.product)}})
        .run(m_handle, stream, of, workspace);
  }

 private:
  CublasLt() { require_cublas(cublasLtCreate(&m_handle), "cublasLtCreate"); }

  /// Asking cublasLt takes longer than many a product. A program that meets ever new numbers of rows begins afresh now
  /// and then.
  CublasPlan& plan(const CublasProblem& problem) {
    constexpr std::size_t most = 4096;
    if (const auto known = m_plans.find(problem); known != m_plans.end()) return known->second;
    if (m_plans.size() >= most) m_plans.clear();
    return m_plans.try_emplace(problem, m_handle, problem).first->second;
  }

  std::mutex m_mutex;
  cublasLtHandle_t m_handle = nullptr;
  std::map<CublasProblem, CublasPlan> m_plans;
};

template <class Real>
void call_blas(const Kokkos::Cuda& execution, const MatrixProduct<Real>& of, const ProductWorkspace& workspace) {
  CublasLt::of_this_process().multiply(execution.cuda_stream(), of, workspace);
}

#else

template <class Real>
void call_blas(const Execution& execution, const MatrixProduct<Real>& of, const ProductWorkspace&) {
  using Factor = typename MatrixProduct<Real>::Factor;
  const auto matrix = [](const Factor& factor, std::int64_t rows, std::int64_t columns) {
    return factor.transpose == Transpose::no ? Array<const Real**>(factor.data, rows, columns)
                                             : Array<const Real**>(factor.data, columns, rows);
  };
  const auto letter = [](const Factor& factor) { return factor.transpose == Transpose::no ? "N" : "T"; };
  const auto left = matrix(of.left, of.rows, of.depth), right = matrix(of.right, of.depth, of.columns);
  const Array<Real**> product(of.product, of.rows, of.columns);
  const Real kept = of.add ? 1 : 0;
  if constexpr (requires { KokkosBlas::gemm(execution, "N", "T", Real(1), left, right, kept, product); }) {
    KokkosBlas::gemm(execution, letter(of.left), letter(of.right), Real(1), left, right, kept, product);
  } else {
    execution.fence();
    KokkosBlas::gemm(letter(of.left), letter(of.right), Real(1), left, right, kept, product);
    Kokkos::fence();
  }
}

#endif

/// Row by row, where the left factor has rows: the last digits of a host's BLAS depend on how many rows it is given,
/// and so would all that is tested bit by bit.
template <class Real>
void call_blas_of_host(const Execution& execution, const MatrixProduct<Real>& of, const ProductWorkspace& workspace) {
  if (of.left.transpose == Transpose::yes) return call_blas(execution, of, workspace);
  for (std::int64_t row = 0; row < of.rows; ++row) {
    MatrixProduct<Real> one = of;
    one.rows = 1;
    one.left.data += row * of.depth;
    one.product += row * of.columns;
    call_blas(execution, one, workspace);
  }
}

}  // namespace

template <class Real>
void device_product([[maybe_unused]] const Execution& execution, const MatrixProduct<Real>& of,
                    [[maybe_unused]] const ProductWorkspace& workspace) {
  if (of.rows == 0) return;
  if constexpr (device_bodies_on_host) {
    call_blas_of_host(execution, of, workspace);
  } else if constexpr (!on_host) {  // a host's products are its own: no BLAS is linked for them
    call_blas(execution, of, workspace);
  }
}

template void device_product<float>(const Execution&, const MatrixProduct<float>&, const ProductWorkspace&);
template void device_product<double>(const Execution&, const MatrixProduct<double>&, const ProductWorkspace&);

}  // namespace bsbr::kernels
