// The body of product_kernel_*.cpp. What includes it defines BSBR_INSTRUCTIONS, the name of the instructions that it is
// compiled for; nothing else is included, since inline functions of other headers would be compiled for them, too, and
// the linker could give those to everybody.
#include "kernels/bfloat16.hpp"
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

/// Numbers rounded to bfloat16, and a zero behind them if they are odd.
void round_row(std::int64_t count, float* row) {
  for (std::int64_t i = 0; i < count; ++i) row[i] = as_bfloat16(row[i]);
  if (count % 2 == 1) row[count] = 0;
}

/// Rows of b as they are stored.
template <class Real>
struct Plain {
  using Number = Real;
  static constexpr int together = 1;
  static constexpr void (*prepare)(std::int64_t, Real*) = nullptr;
  static constexpr void (*widen)(int, const void*, Real*) = nullptr;
  /// Elements b[k + i, column …] of what a vector of b has.
  [[gnu::always_inline]] static Vector<Real> widened(const Vector<Real>& stored, int) { return stored; }
};

void widen_pairs(int depth, const void* b, float* numbers);

/// Rows of b in pairs of bfloat16: the first one of a pair is the lower half of 32 bits.
struct Bfloat16Pairs {
  using Number = std::uint32_t;
  static constexpr int together = 2;
  static constexpr void (*prepare)(std::int64_t, float*) = round_row;
  static constexpr void (*widen)(int, const void*, float*) = widen_pairs;
  [[gnu::always_inline]] static Vector<float> widened(const Vector<std::uint32_t>& stored, int i) {
    return __builtin_bit_cast(Vector<float>, i == 0 ? stored << 16 : stored & 0xffff0000U);
  }
};

/// numbers [depth, columns] = b [depth / 2][columns][2]
void widen_pairs(int depth, const void* b, float* numbers) {
  const auto* pairs = static_cast<const std::uint32_t*>(b);
  for (int k = 0; k < depth; k += 2) {
    for (int i = 0; i < columns<float>; i += lanes<float>) {
      const auto stored = load<Vector<std::uint32_t>>(pairs + k / 2 * columns<float> + i);
      store(numbers + k * columns<float> + i, Bfloat16Pairs::widened(stored, 0));
      store(numbers + (k + 1) * columns<float> + i, Bfloat16Pairs::widened(stored, 1));
    }
  }
}

/// c[row, :] = Σ_k a[row, k] b[k, :], or += .
template <int rows, bool reads_ahead, class Stored, class Real>
void tile(int depth, const Real* a, std::int64_t a_stride, const typename Stored::Number* b, Real* c,
          std::int64_t c_stride, bool add, [[maybe_unused]] const ReadAhead& ahead) {
  using Number = typename Stored::Number;
  constexpr int together = Stored::together;
  Vector<Real> sums[rows][tile_vectors] = {};
  for (int k = 0; k < depth; k += together) {
    if constexpr (reads_ahead) {
      constexpr int bytes = columns<Real> * static_cast<int>(sizeof(Real)), line = 64;
      for (int i = 0; i < bytes; i += line) __builtin_prefetch(ahead.from + k / together * ahead.step + i);
    }
    const Number* b_row = b + k / together * columns<Real>;
    for (int i = 0; i < together; ++i) {
      Vector<Real> widened[tile_vectors];
      for (int v = 0; v < tile_vectors; ++v)
        widened[v] = Stored::widened(load<Vector<Number>>(b_row + v * lanes<Real>), i);
      for (int row = 0; row < rows; ++row) {
        const Real factor = a[row * a_stride + k + i];
        for (int v = 0; v < tile_vectors; ++v) sums[row][v] += factor * widened[v];
      }
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
template <class Stored, class Real>
void tile_of(int rows, int depth, const void* a, std::int64_t a_stride, const void* b, Real* c, std::int64_t c_stride,
             bool add, const ReadAhead& ahead) {
  const auto* left = static_cast<const Real*>(a);
  const auto* right = static_cast<const typename Stored::Number*>(b);
  with_constant<tile_rows>(rows, [&](auto count) {
    if (ahead.from == nullptr)
      tile<count, false, Stored>(depth, left, a_stride, right, c, c_stride, add, ahead);
    else
      tile<count, true, Stored>(depth, left, a_stride, right, c, c_stride, add, ahead);
  });
}

#define BSBR_NAME_OF(instructions) #instructions
#define BSBR_NAME(instructions) BSBR_NAME_OF(instructions)

template <class Stored, class Real>
constexpr ProductKernel<Real> the_kernel{.name = BSBR_NAME(BSBR_INSTRUCTIONS),
                                         .rows = tile_rows,
                                         .columns = columns<Real>,
                                         .together = Stored::together,
                                         .depth_unit = Stored::together,
                                         .a_bytes = sizeof(Real),
                                         .tile = tile_of<Stored, Real>,
                                         .prepare = Stored::prepare,
                                         .widen = Stored::widen,
                                         .tile_of_widened = tile_of<Plain<Real>, Real>};

}  // namespace

extern const ProductKernel<float> kernel_of_float, kernel_of_bfloat16;
extern const ProductKernel<double> kernel_of_double;
const ProductKernel<float> kernel_of_float = the_kernel<Plain<float>, float>;
const ProductKernel<float> kernel_of_bfloat16 = the_kernel<Bfloat16Pairs, float>;
const ProductKernel<double> kernel_of_double = the_kernel<Plain<double>, double>;

}  // namespace bsbr::kernels::BSBR_INSTRUCTIONS
