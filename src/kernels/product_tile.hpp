// The body of product_kernel_*.cpp. What includes it defines BSBR_INSTRUCTIONS, the name of the instructions that it is compiled for;
// nothing else is included, since inline functions of other headers would be compiled for them, too, and the linker could give those to
// everybody.
#include "kernels/product_kernel.hpp"

namespace bsbr::kernels::BSBR_INSTRUCTIONS {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, tile_rows = 6, tile_vectors = 4;  // 24 sums, 4 of b, 1 of a: 29 of 32 registers
#elif defined(__AVX__)
constexpr int vector_bytes = 32, tile_rows = 6, tile_vectors = 2;  // 12 + 2 + 1 of 16
#elif defined(__x86_64__)
constexpr int vector_bytes = 16, tile_rows = 6, tile_vectors = 2;
#else
constexpr int vector_bytes = 16, tile_rows = 6, tile_vectors = 4;  // NEON, VSX: 29 of 32
#endif

template <class Real>
using Vector [[gnu::vector_size(vector_bytes)]] = Real;

// Vectors lie where their numbers do. By memcpy, since compilers forget an alignment that depends on a template's parameter.
template <class Real>
auto load(const Real* from) {
  Vector<Real> vector;
  __builtin_memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <class Real, class Numbers>
void store(Real* to, const Numbers& vector) {
  __builtin_memcpy(to, &vector, sizeof(vector));
}

template <int rows, class Real>
void tile(int depth, const Real* a, std::int64_t a_stride, const Real* b, Real* c, std::int64_t c_stride, bool add) {
  constexpr int lanes = vector_bytes / static_cast<int>(sizeof(Real)), columns = tile_vectors * lanes;
  Vector<Real> sums[rows][tile_vectors] = {};
  for (int k = 0; k < depth; ++k) {
    Vector<Real> b_row[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) b_row[v] = load(b + k * columns + v * lanes);
    for (int row = 0; row < rows; ++row) {
      const Real factor = a[row * a_stride + k];
      for (int v = 0; v < tile_vectors; ++v) sums[row][v] += factor * b_row[v];
    }
  }
  for (int row = 0; row < rows; ++row) {
    for (int v = 0; v < tile_vectors; ++v) {
      Real* target = c + row * c_stride + v * lanes;
      store(target, add ? load(target) + sums[row][v] : sums[row][v]);
    }
  }
}

/// Up to `most` rows.
template <int most, class Real>
void tile_of(int rows, int depth, const Real* a, std::int64_t a_stride, const Real* b, Real* c, std::int64_t c_stride, bool add) {
  if constexpr (most > 1) {
    if (rows < most) return tile_of<most - 1>(rows, depth, a, a_stride, b, c, c_stride, add);
  }
  tile<most>(depth, a, a_stride, b, c, c_stride, add);
}

#define BSBR_NAME_OF(instructions) #instructions
#define BSBR_NAME(instructions) BSBR_NAME_OF(instructions)

template <class Real>
constexpr ProductKernel<Real> the_kernel{BSBR_NAME(BSBR_INSTRUCTIONS), tile_rows,
                                         tile_vectors* vector_bytes / static_cast<int>(sizeof(Real)), tile_of<tile_rows, Real>};

}  // namespace

extern const ProductKernel<float> kernel_of_float;
extern const ProductKernel<double> kernel_of_double;
const ProductKernel<float> kernel_of_float = the_kernel<float>;
const ProductKernel<double> kernel_of_double = the_kernel<double>;

}  // namespace bsbr::kernels::BSBR_INSTRUCTIONS
