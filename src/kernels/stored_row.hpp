// Rows of queries, keys and values as they lie in memory: numbers as kernels compute with them, or bfloat16, two of
// which take the place of a float. Kernels read both: what a row holds is known when the program runs, and loops over
// its elements are compiled for each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/bfloat16.hpp"
#include "kernels/compat.hpp"
#include "kernels/tuning.hpp"
#include "kernels/vectors.hpp"

namespace bsbr::kernels {

/// An element of a packed row. It lies in an array of floats, so it may alias them.
struct [[gnu::may_alias]] Bfloat16 {
  std::uint16_t bits;

  Bfloat16() = default;
  BSBR_BFLOAT16_FUNCTION explicit Bfloat16(float number)
      : bits(static_cast<std::uint16_t>(bits_as_bfloat16(__builtin_bit_cast(std::uint32_t, number)) >> 16)) {}
  BSBR_BFLOAT16_FUNCTION operator float() const {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
  }
};

#if !defined(__CUDACC__) && !defined(__HIPCC__)  // a GPU has no packed rows, and its compilers other vectors
/// The bits of as many elements of a packed row as a vector of Words has lanes, each in the lower half of a word.
template <class Words>
[[gnu::always_inline]] inline Words load_words(const Bfloat16* from) {
  using Halves [[gnu::vector_size(sizeof(Words) / 2)]] = std::uint16_t;
  Halves halves;
  __builtin_memcpy(&halves, from, sizeof(halves));
  return __builtin_convertvector(halves, Words);
}

/// A vector of floats from as many elements of a packed row.
template <class Vector>
[[gnu::always_inline]] inline Vector load(const Bfloat16* from) {
  using Words [[gnu::vector_size(tuning::vector_bytes)]] = std::uint32_t;
  static_assert(sizeof(Vector) == sizeof(Words));
  return __builtin_bit_cast(Vector, load_words<Words>(from) << 16);
}
#endif

/// A row that is read, like a pointer to its first element; null: there is none. Packed ones are a host's, of floats.
template <class Real>
class StoredRow {
 public:
  static constexpr bool may_be_packed = on_host && std::is_same_v<Real, float>;

  StoredRow() = default;
  KOKKOS_INLINE_FUNCTION StoredRow(std::nullptr_t) {}
  KOKKOS_INLINE_FUNCTION StoredRow(const Real* data, bool packed = false)
      : m_data(reinterpret_cast<const char*>(data)), m_is_packed(packed) {}

  KOKKOS_INLINE_FUNCTION bool is_packed() const { return may_be_packed && m_is_packed; }
  /// Its elements, if they are packed, and if they are not.
  const Bfloat16* packed_elements() const { return reinterpret_cast<const Bfloat16*>(m_data); }
  KOKKOS_INLINE_FUNCTION const Real* elements() const { return reinterpret_cast<const Real*>(m_data); }

  KOKKOS_INLINE_FUNCTION Real operator[](std::int64_t i) const {
    if constexpr (may_be_packed) {
      if (m_is_packed) return packed_elements()[i];
    }
    return elements()[i];
  }

  /// From element i on.
  KOKKOS_INLINE_FUNCTION StoredRow operator+(std::int64_t i) const {
    return moved(i * static_cast<std::int64_t>(is_packed() ? sizeof(Bfloat16) : sizeof(Real)));
  }

  /// The row that lies `stride` elements of the array, which are Reals, farther on.
  KOKKOS_INLINE_FUNCTION StoredRow at_stride(std::int64_t stride) const {
    return moved(stride * static_cast<std::int64_t>(sizeof(Real)));
  }

  KOKKOS_INLINE_FUNCTION friend bool operator==(const StoredRow& row, std::nullptr_t) { return row.m_data == nullptr; }

 private:
  KOKKOS_INLINE_FUNCTION StoredRow moved(std::int64_t bytes) const {
    StoredRow row = *this;
    row.m_data += bytes;
    return row;
  }

  const char* m_data = nullptr;
  bool m_is_packed = false;
};

/// Calls f(pointer to the row's elements): of Real, or Bfloat16. Of a host.
template <class Real, class Function>
[[gnu::always_inline]] inline void with_elements(const StoredRow<Real>& row, const Function& f) {
  if constexpr (StoredRow<Real>::may_be_packed) {
    if (row.is_packed()) return f(row.packed_elements());
  }
  f(row.elements());
}

/// The same of an array of rows: f(array of pointers). All that are not null are packed, or none is.
template <int count, class Real, class Function>
[[gnu::always_inline]] inline void with_elements(const StoredRow<Real> (&rows)[count], const Function& f) {
  if constexpr (StoredRow<Real>::may_be_packed) {
    const Bfloat16* elements[count];
    bool are_packed = false;
    for (int i = 0; i < count; ++i) {
      elements[i] = rows[i].packed_elements();
      are_packed = are_packed || rows[i].is_packed();
    }
    if (are_packed) return f(elements);
  }
  const Real* elements[count];
  for (int i = 0; i < count; ++i) elements[i] = rows[i].elements();
  f(elements);
}
template <int count, class Real, class Function>
[[gnu::always_inline]] inline void with_elements(const Real* const (&rows)[count], const Function& f) {
  f(rows);
}

/// A row's elements, where it is known what they are.
template <class Element, class Real>
[[gnu::always_inline]] inline const Element* elements_of(const StoredRow<Real>& row) {
  if constexpr (std::is_same_v<Element, Bfloat16>) {
    return row.packed_elements();
  } else {
    return row.elements();
  }
}
template <class Element>
[[gnu::always_inline]] inline const Element* elements_of(const Element* row) {
  return row;
}

/// Asks a host's caches for `count` elements of a row.
template <class Real>
KOKKOS_INLINE_FUNCTION void prefetch(const StoredRow<Real>& row, int count) {
  prefetch(row.elements(), row.is_packed() ? count / 2 : count);
}

/// The same of the next head, given a head's key or value, which are `width` elements. Packed ones alternate.
template <class Real>
KOKKOS_INLINE_FUNCTION void prefetch_next_head(const StoredRow<Real>& row, int width) {
  prefetch(row + (row.is_packed() ? 2 * width : width), width);
}
template <class Real>
KOKKOS_INLINE_FUNCTION void prefetch_next_head(const Real* row, int width) {
  prefetch(row + width, width);
}

}  // namespace bsbr::kernels
