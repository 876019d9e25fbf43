// The innermost loop of the big matrix products on a host, for the vectors that this CPU has.
//
// It is compiled once for each set of instructions (product_kernel_*.cpp), whatever the rest of the library is compiled
// for, and chosen when the program runs: so in packages for any CPU these products are as fast as in those for one.
#pragma once

#include <cstdint>
#include <vector>

namespace bsbr::kernels {

/// What a kernel asks caches for while it multiplies: at step k of its depth for the elements of a row of b from
/// from + k · step on. Null: nothing.
template <class Real>
struct ReadAhead {
  const Real* from = nullptr;
  std::int64_t step = 0;
};

/// One tile of c = a·b that stays in registers over the whole depth. Each element is one chain of multiply-adds from 0,
/// so that its bits depend on its row of a and its column of b only.
template <class Real>
struct ProductKernel {
  /// Of any kernel, with vectors of 64 bytes.
  static constexpr int most_rows = 6, most_columns = 4 * 64 / static_cast<int>(sizeof(Real));

  const char* name;   ///< "avx512"
  int rows, columns;  ///< largest number of rows, and the number of columns, of a tile

  /// c [rows, columns] = a [rows, depth] · b [depth, columns], or += . Rows of a and c lie a_stride and c_stride
  /// elements apart, those of b one after the other.
  void (*tile)(int rows, int depth, const Real* a, std::int64_t a_stride, const Real* b, Real* c, std::int64_t c_stride,
               bool add, const ReadAhead<Real>& ahead);
};

/// Those that this CPU can run, the fastest first; never empty.
template <class Real>
std::vector<ProductKernel<Real>> product_kernels();

/// The fastest.
template <class Real>
const ProductKernel<Real>& product_kernel();

}  // namespace bsbr::kernels
