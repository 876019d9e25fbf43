// The big matrix products of a GPU: one call of a BLAS each. With CUDA it is cublasLt, elsewhere that of Kokkos
// Kernels.
#pragma once

#include <Kokkos_Core.hpp>
#include <compare>
#include <string>

#include "kernels/backend.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Whether products of floats take the operands as TF32, with 10 bits of mantissa instead of 23, and are several times
/// as fast for it: the environment variable BSBR_TF32=on or off; off if it is not set. Without effect but on on_cuda.
/// Found out once for each process. Throws ConfigError for another value.
bool tf32_products();

/// Memory that a BLAS may use for itself while it multiplies. Products that share it run one after the other, on one
/// stream.
using ProductWorkspace = Array<char*>;

inline ProductWorkspace make_product_workspace() {
  if constexpr (tuning::product_workspace_bytes == 0) return {};
  return ProductWorkspace(Kokkos::view_alloc(std::string("bsbr::product_workspace"), Kokkos::WithoutInitializing),
                          tuning::product_workspace_bytes);
}

/// Whether a matrix is taken as it lies in memory, or its transpose.
enum class Transpose { no, yes };

/// A dense matrix as a BLAS sees it: column after column, `rows` elements apart.
struct ColumnMajor {
  std::int64_t rows, columns;

  auto operator<=>(const ColumnMajor&) const = default;
};

/// The matrices of a product as they lie in memory, for a BLAS that forms c = a · b of them or of their transposes.
struct BlasMatrices {
  ColumnMajor a, b, c;
  Transpose of_a, of_b;

  auto operator<=>(const BlasMatrices&) const = default;
};

/// product [rows, columns] = left [rows, depth] · right [depth, columns], or +=. All are dense, row after row; of left
/// and right the transposes may be what lies in memory.
template <class Real>
struct MatrixProduct {
  struct Factor {
    const Real* data;
    Transpose transpose;
  };

  std::int64_t rows, columns, depth;
  Factor left, right;
  Real* product;
  bool add;

  /// What lies row after row is its transpose for a BLAS, which sees productᵀ = rightᵀ · leftᵀ: a = right, b = left.
  BlasMatrices for_blas() const {
    const auto column_major = [](const Factor& factor, std::int64_t height, std::int64_t width) {
      return factor.transpose == Transpose::no ? ColumnMajor{width, height} : ColumnMajor{height, width};
    };
    return {column_major(right, depth, columns),
            column_major(left, rows, depth),
            {columns, rows},
            right.transpose,
            left.transpose};
  }
};

/// Multiplies on a GPU, in the order of `execution`: only older Kokkos Kernels, which cannot be told, are waited for.
/// Throws Error where the BLAS refuses.
template <class Real>
void device_product(const Execution& execution, const MatrixProduct<Real>& of, const ProductWorkspace& workspace);

}  // namespace bsbr::kernels
