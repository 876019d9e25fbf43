// The body of product_kernel_*.cpp. What includes it defines BSBR_INSTRUCTIONS, the name of the instructions that it is
// compiled for; nothing else is included, since inline functions of other headers would be compiled for them, too, and
// the linker could give those to everybody.
#include "kernels/product_kernel.hpp"
#include "kernels/sizes.hpp"
#include "kernels/vectors.hpp"

namespace bsbr::kernels::BSBR_INSTRUCTIONS {
namespace {

constexpr int vector_bytes = CpuRegisters::vector_bytes, tile_rows = CpuRegisters::micro_rows,
              tile_vectors = CpuRegisters::micro_vectors;

template <class Real>
using Vector [[gnu::vector_size(vector_bytes)]] = Real;
template <class Real>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(Real));
template <class Real>
constexpr int columns = tile_vectors* lanes<Real>;
static_assert(tile_rows <= ProductKernel<float>::most_rows && columns<float> <= ProductKernel<float>::most_columns);

/// c[row, :] = Σ_k a[row, k] b[k, :], or += .
template <int rows, bool reads_ahead, class Real>
void tile(int depth, const Real* a, std::int64_t a_stride, const Real* b, Real* c, std::int64_t c_stride, bool add,
          [[maybe_unused]] const ReadAhead<Real>& ahead) {
  Vector<Real> sums[rows][tile_vectors] = {};
  for (int k = 0; k < depth; ++k) {
    if constexpr (reads_ahead) {
      constexpr int line = 64 / static_cast<int>(sizeof(Real));
      for (int i = 0; i < columns<Real>; i += line) __builtin_prefetch(ahead.from + k * ahead.step + i);
    }
    Vector<Real> b_row[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) b_row[v] = load<Vector<Real>>(b + k * columns<Real> + v * lanes<Real>);
    for (int row = 0; row < rows; ++row) {
      const Real factor = a[row * a_stride + k];
      for (int v = 0; v < tile_vectors; ++v) sums[row][v] += factor * b_row[v];
    }
  }
  for (int row = 0; row < rows; ++row) {
    for (int v = 0; v < tile_vectors; ++v) {
      Real* target = c + row * c_stride + v * lanes<Real>;
      store(target, add ? load<Vector<Real>>(target) + sums[row][v] : sums[row][v]);
    }
  }
}

/// The same of 1 to tile_rows rows.
template <class Real>
void tile_of(int rows, int depth, const Real* a, std::int64_t a_stride, const Real* b, Real* c, std::int64_t c_stride,
             bool add, const ReadAhead<Real>& ahead) {
  with_constant<tile_rows>(rows, [&](auto count) {
    if (ahead.from == nullptr)
      tile<count, false>(depth, a, a_stride, b, c, c_stride, add, ahead);
    else
      tile<count, true>(depth, a, a_stride, b, c, c_stride, add, ahead);
  });
}

#define BSBR_NAME_OF(instructions) #instructions
#define BSBR_NAME(instructions) BSBR_NAME_OF(instructions)

template <class Real>
constexpr ProductKernel<Real> the_kernel{BSBR_NAME(BSBR_INSTRUCTIONS), tile_rows, columns<Real>, tile_of<Real>};

}  // namespace

extern const ProductKernel<float> kernel_of_float;
extern const ProductKernel<double> kernel_of_double;
const ProductKernel<float> kernel_of_float = the_kernel<float>;
const ProductKernel<double> kernel_of_double = the_kernel<double>;

}  // namespace bsbr::kernels::BSBR_INSTRUCTIONS
