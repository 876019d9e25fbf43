// The innermost loop of the big matrix products on a host, for the vectors that this CPU has.
//
// It is compiled once for each set of instructions (product_kernel_*.cpp), whatever the rest of the library is compiled
// for, and chosen when the program runs: so in packages for any CPU these products are as fast as in those for one.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/rounding.hpp"

namespace bsbr::kernels {

/// What a kernel asks caches for while it multiplies: at each step of its depth for as many bytes as a row of b has,
/// from from + index · step on. Null: nothing.
struct ReadAhead {
  const char* from = nullptr;
  std::int64_t step = 0;
};

/// One tile of c = a·b that stays in registers over the whole depth. Each element is the same chain of multiply-adds,
/// or of the kernel's instruction, whatever the tile: its bits depend on its row of a and its column of b only.
///
/// Factors are numbers of Real, or rounded to bfloat16. Then b has two neighbours of the depth side by side, [depth /
/// 2][columns][2], and rows of a are what `prepare` makes of numbers: bfloat16 as well, or those numbers widened.
template <class Real>
struct ProductKernel {
  /// Of any kernel without rounding, with vectors of 64 bytes; and the columns of any at all.
  static constexpr int most_rows = 6, most_columns = 4 * 64 / static_cast<int>(sizeof(Real));

  const char* name;   ///< "avx512"
  int rows, columns;  ///< largest number of rows, and the number of columns, of a tile
  int together;       ///< neighbours of the depth side by side in b: 1, or 2
  int depth_unit;     ///< depths are multiples of this: what a sum lacks is zeros in both factors
  int a_bytes;        ///< of an element of a; those of b have sizeof(Real) / together
  /// Its instruction multiplies whole matrices, so much faster than multiply-adds that attention uses it, too.
  bool multiplies_matrices = false;

  /// c [rows, columns] = a [rows, depth] · b [depth, columns], or += . Rows of a and c lie a_stride and c_stride
  /// elements apart, those of b one after the other.
  using Tile = void (*)(int rows, int depth, const void* a, std::int64_t a_stride, const void* b, Real* c,
                        std::int64_t c_stride, bool add, const ReadAhead& ahead);
  Tile tile;

  /// Makes numbers [count], and zeros behind them up to a multiple of depth_unit, a row of a, in their place. Null:
  /// they are one.
  void (*prepare)(std::int64_t count, Real* row) = nullptr;

  /// Of a kernel that widens b, otherwise null: widens [depth, columns] of it, and multiplies by that with the same
  /// bits.
  void (*widen)(int depth, const void* b, Real* numbers) = nullptr;
  Tile tile_of_widened = nullptr;

  /// Called by a thread before some tiles, and after them; may be null.
  void (*begin)() = nullptr;
  void (*end)() = nullptr;
};

/// Those that this CPU can run, the fastest first; never empty. With rounding for Real = float only.
template <class Real>
std::vector<ProductKernel<Real>> product_kernels(Rounding rounding = Rounding::none);

/// The fastest.
template <class Real>
const ProductKernel<Real>& product_kernel(Rounding rounding = Rounding::none);

}  // namespace bsbr::kernels
