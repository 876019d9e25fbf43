// What a kit for NVIDIA GPUs has in the place of cublasLt, which takes half a gigabyte: the functions of it that the library calls, with a
// plain product behind them. It lies among the kit's libraries; where the machine has a cublasLt, `run` makes the loader take that one.
//
// Known are the products of the library: d = alpha · op(a) · op(b) + beta · c, all column by column, in float or double, where op may
// transpose. Anything else is CUBLAS_STATUS_NOT_SUPPORTED. TF32 is not: its products are those of float.
#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr int tile = 32, threads = 8;  // a block has 32 × 8 threads for a tile of 32 × 32, four elements each

struct Matrix {
  std::uint64_t type, rows, columns;
  std::int64_t stride;
};

struct Product {
  std::int32_t type, transpose_a, transpose_b;
};

/// What is kept in the memory of an opaque type of cublasLt.
template <class Content, class Opaque>
Content read(const Opaque* opaque) {
  static_assert(sizeof(Content) <= sizeof(Opaque));
  Content content;
  std::memcpy(&content, opaque, sizeof content);
  return content;
}

template <class Content, class Opaque>
cublasStatus_t write(Opaque* opaque, std::size_t size, const Content& content) {
  if (size < sizeof content) return CUBLAS_STATUS_INVALID_VALUE;
  std::memset(opaque, 0, size);
  std::memcpy(opaque, &content, sizeof content);
  return CUBLAS_STATUS_SUCCESS;
}

template <class Real>
struct Operands {
  const Real *a, *b, *c;
  Real* d;
  std::int64_t a_stride, b_stride, c_stride, d_stride, rows, columns, depth;
  bool transpose_a, transpose_b;
  Real alpha, beta;

  __device__ Real left(std::int64_t row, std::int64_t k) const { return a[transpose_a ? k + row * a_stride : row + k * a_stride]; }
  __device__ Real right(std::int64_t k, std::int64_t column) const {
    return b[transpose_b ? column + k * b_stride : k + column * b_stride];
  }
};

/// One tile of d.
template <class Real>
__global__ void multiply(Operands<Real> of) {
  __shared__ Real a[tile][tile + 1], b[tile][tile + 1];
  const std::int64_t first_row = std::int64_t{tile} * blockIdx.x, first_column = std::int64_t{tile} * blockIdx.y;
  Real sums[tile / threads] = {};
  for (std::int64_t first = 0; first < of.depth; first += tile) {
    const std::int64_t k = first + threadIdx.x;
    for (int i = threadIdx.y; i < tile; i += threads) {
      const std::int64_t row = first_row + i, column = first_column + i;
      a[i][threadIdx.x] = k < of.depth && row < of.rows ? of.left(row, k) : Real(0);
      b[i][threadIdx.x] = k < of.depth && column < of.columns ? of.right(k, column) : Real(0);
    }
    __syncthreads();
    const int part = static_cast<int>(of.depth - first < tile ? of.depth - first : tile);  // 0 · NaN would be NaN
    for (int l = 0; l < part; ++l) {
      for (int j = 0; j < tile / threads; ++j) sums[j] += a[threadIdx.x][l] * b[threadIdx.y + j * threads][l];
    }
    __syncthreads();
  }
  const std::int64_t row = first_row + threadIdx.x;
  for (int j = 0; j < tile / threads; ++j) {
    const std::int64_t column = first_column + threadIdx.y + j * threads;
    if (row >= of.rows || column >= of.columns) continue;
    const Real before = of.beta == Real(0) ? Real(0) : of.beta * of.c[row + column * of.c_stride];
    of.d[row + column * of.d_stride] = of.alpha * sums[j] + before;
  }
}

struct Arguments {
  const void *alpha, *a, *b, *beta, *c;
  void* d;
  Matrix a_is, b_is, c_is, d_is;
  bool transpose_a, transpose_b;
};

/// op(matrix).
Matrix transposed(const Matrix& matrix, bool transpose) {
  return transpose ? Matrix{matrix.type, matrix.columns, matrix.rows, matrix.stride} : matrix;
}

template <class Real>
cublasStatus_t launch(const Arguments& of, cudaStream_t stream) {
  const Operands<Real> operands{static_cast<const Real*>(of.a),
                                static_cast<const Real*>(of.b),
                                static_cast<const Real*>(of.c),
                                static_cast<Real*>(of.d),
                                of.a_is.stride,
                                of.b_is.stride,
                                of.c_is.stride,
                                of.d_is.stride,
                                static_cast<std::int64_t>(of.d_is.rows),
                                static_cast<std::int64_t>(of.d_is.columns),
                                static_cast<std::int64_t>(transposed(of.a_is, of.transpose_a).columns),
                                of.transpose_a,
                                of.transpose_b,
                                *static_cast<const Real*>(of.alpha),
                                *static_cast<const Real*>(of.beta)};
  const dim3 blocks(static_cast<unsigned>((operands.rows + tile - 1) / tile), static_cast<unsigned>((operands.columns + tile - 1) / tile));
  multiply<Real><<<blocks, dim3(tile, threads), 0, stream>>>(operands);
  return cudaGetLastError() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

/// Whether the sizes of a product fit each other.
bool fit(const Arguments& of) {
  const Matrix left = transposed(of.a_is, of.transpose_a), right = transposed(of.b_is, of.transpose_b);
  return left.columns == right.rows && left.rows == of.d_is.rows && right.columns == of.d_is.columns &&
         of.c_is.rows == of.d_is.rows && of.c_is.columns == of.d_is.columns;
}

int handle;  // there is nothing to hold

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* lightHandle) {
  *lightHandle = reinterpret_cast<cublasLtHandle_t>(&handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS (of the kit)";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE (of the kit)";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED (of the kit)";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED (of the kit)";
    default:
      return "another status (of the kit)";
  }
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size, cudaDataType type, uint64_t rows,
                                                 uint64_t columns, int64_t stride) {
  return write(layout, size, Matrix{static_cast<std::uint64_t>(type), rows, columns, stride});
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t product, size_t size, cublasComputeType_t, cudaDataType_t type) {
  return write(product, size, Product{type, CUBLAS_OP_N, CUBLAS_OP_N});
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t which, const void* value,
                                              size_t size) {
  Product content = read<Product>(product);
  std::int32_t number = 0;
  if (size != sizeof number) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&number, value, sizeof number);
  if (which != CUBLASLT_MATMUL_DESC_TRANSA && which != CUBLASLT_MATMUL_DESC_TRANSB) return CUBLAS_STATUS_NOT_SUPPORTED;
  (which == CUBLASLT_MATMUL_DESC_TRANSA ? content.transpose_a : content.transpose_b) = number;
  return write(product, sizeof *product, content);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t size) {
  std::memset(preference, 0, size);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  std::memset(results, 0, sizeof *results);
  results->state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void* alpha, const void* a, cublasLtMatrixLayout_t a_is,
                              const void* b, cublasLtMatrixLayout_t b_is, const void* beta, const void* c, cublasLtMatrixLayout_t c_is,
                              void* d, cublasLtMatrixLayout_t d_is, const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t stream) {
  const Product kind = read<Product>(product);
  const Arguments of{alpha,
                     a,
                     b,
                     beta,
                     c,
                     d,
                     read<Matrix>(a_is),
                     read<Matrix>(b_is),
                     read<Matrix>(c_is),
                     read<Matrix>(d_is),
                     kind.transpose_a == CUBLAS_OP_T,
                     kind.transpose_b == CUBLAS_OP_T};
  for (const Matrix& matrix : {of.a_is, of.b_is, of.c_is, of.d_is}) {
    if (matrix.type != static_cast<std::uint64_t>(kind.type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (!fit(of)) return CUBLAS_STATUS_INVALID_VALUE;
  if (kind.type == CUDA_R_32F) return launch<float>(of, stream);
  return kind.type == CUDA_R_64F ? launch<double>(of, stream) : CUBLAS_STATUS_NOT_SUPPORTED;
}
}
