// Rows of tokens, as the kernels are given them.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>
#include <type_traits>

#include "kernels/compat.hpp"
#include "kernels/stored_row.hpp"

namespace bsbr::kernels {

/// Tokens of one (batch, head) as rows of `width` elements that lie `stride` elements of their array apart.
template <class Real>
struct TokenRows {
  StoredRow<Real> first;
  std::int64_t stride;
  int width;

  KOKKOS_INLINE_FUNCTION StoredRow<Real> row(std::int64_t t) const { return first.at_stride(t * stride); }

  /// Columns [begin, begin + count) of the rows.
  KOKKOS_INLINE_FUNCTION TokenRows columns(int begin, int count) const { return {first + begin, stride, count}; }
};

/// Rows of all heads, those of a token side by side: queries, or what has their shape.
template <class Real>
struct HeadRows {
  Strided<const Real***> rows;  // [batch, tokens, heads · head_dim]; half as many of packed rows
  bool packed = false;

  HeadRows() = default;
  template <class Rows, class = std::enable_if_t<std::is_convertible_v<Rows, Strided<const Real***>>>>
  HeadRows(const Rows& of_heads, bool are_packed = false) : rows(of_heads), packed(are_packed) {}

  /// Of a head of `width` elements: token t.
  KOKKOS_INLINE_FUNCTION StoredRow<Real> row(std::int64_t batch, std::int64_t t, std::int64_t head, int width) const {
    return {&rows(batch, t, packed ? head * width / 2 : head * width), packed};
  }
  KOKKOS_INLINE_FUNCTION TokenRows<Real> of_head(std::int64_t batch, std::int64_t head, int width) const {
    return {row(batch, 0, head, width), static_cast<std::int64_t>(rows.stride(1)), width};
  }
};

/// 1/n for n real ones of the rows [begin, end) of a sequence, by which their sum becomes their mean; 0 if none is
/// real. mask: null: all are.
template <class Real>
KOKKOS_INLINE_FUNCTION Real share_of_token(const std::uint8_t* mask, std::int64_t begin, std::int64_t end) {
  std::int64_t count = end - begin;
  for (std::int64_t t = begin; mask != nullptr && t < end; ++t) count -= mask[t] == 0 ? 1 : 0;
  return count > 0 ? Real(1) / static_cast<Real>(count) : Real(0);
}

/// The keys and values that are at hand: of the tokens from `origin` on, which is counted in the whole sequence.
template <class Real>
struct KeysAndValues {
  Strided<const Real***> key, value;  // [batch, tokens, heads · head_dim]; packed: only key, of each head its key and
                                      // then its value
  Array<const std::uint8_t**> real;   // [batch, tokens]: 0 where a token is padding; empty where there is no padding
  std::int64_t origin;
  bool packed = false;

  KOKKOS_INLINE_FUNCTION bool is_real(std::int64_t batch, std::int64_t token) const {
    return real.data() == nullptr || real(batch, token - origin) != 0;
  }
  /// Of one head of `width` elements, token `origin` + t.
  KOKKOS_INLINE_FUNCTION StoredRow<Real> key_row(std::int64_t batch, std::int64_t t, std::int64_t head,
                                                 int width) const {
    return {&key(batch, t, head * width), packed};
  }
  KOKKOS_INLINE_FUNCTION StoredRow<Real> value_row(std::int64_t batch, std::int64_t t, std::int64_t head,
                                                   int width) const {
    if (packed) return key_row(batch, t, head, width) + width;
    return {&value(batch, t, head * width)};
  }
  /// Of one head, from `origin` on.
  KOKKOS_INLINE_FUNCTION TokenRows<Real> keys_of(std::int64_t batch, std::int64_t head, int width) const {
    return {key_row(batch, 0, head, width), static_cast<std::int64_t>(key.stride(1)), width};
  }
  KOKKOS_INLINE_FUNCTION TokenRows<Real> values_of(std::int64_t batch, std::int64_t head, int width) const {
    const Strided<const Real***>& rows = packed ? key : value;
    return {value_row(batch, 0, head, width), static_cast<std::int64_t>(rows.stride(1)), width};
  }
  /// Of one sequence of the batch, from `origin` on; null: all are real.
  KOKKOS_INLINE_FUNCTION const std::uint8_t* mask(std::int64_t batch) const {
    return real.data() == nullptr ? nullptr : &real(batch, 0);
  }
};

}  // namespace bsbr::kernels
