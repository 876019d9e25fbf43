// Vectors of elements, for the loops that hold a tile of a product in registers: product_tile.hpp, tile_product.hpp.
//
// All functions are inlined always: product_tile.hpp is compiled for several sets of instructions, and there must be no
// copy that the linker could give to everybody.
#pragma once

#include <type_traits>

namespace bsbr::kernels {

/// The vector at `from`, wherever it lies. By memcpy, since compilers forget an alignment that depends on a template's
/// parameter.
template <class Vector, class Real>
[[gnu::always_inline]] inline Vector load(const Real* from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <class Real, class Vector>
[[gnu::always_inline]] inline void store(Real* to, const Vector& vector) {
  __builtin_memcpy(to, &vector, sizeof(vector));
}

/// f(std::integral_constant<int, count>), for a count of 1 to `most`: one of so many functions, each compiled for its
/// count.
template <int most, class Function>
[[gnu::always_inline]] inline void with_constant(int count, const Function& f) {
  if constexpr (most > 1) {
    if (count < most) return with_constant<most - 1>(count, f);
  }
  f(std::integral_constant<int, most>());
}

}  // namespace bsbr::kernels
