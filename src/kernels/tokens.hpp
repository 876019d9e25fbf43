// Rows of tokens, as the kernels are given them.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

#include "kernels/compat.hpp"

namespace bsbr::kernels {

/// Tokens of one (batch, head) as rows that lie `stride` elements apart: row t at data + t·stride, `width` elements.
template <class Real>
struct TokenRows {
  const Real* data;
  std::int64_t stride;
  int width;

  /// Columns [first, first + count) of the rows.
  KOKKOS_INLINE_FUNCTION TokenRows columns(int first, int count) const { return {data + first, stride, count}; }
};

/// Columns [first, first + width) of one sequence of the batch.
template <class Real>
KOKKOS_INLINE_FUNCTION TokenRows<Real> token_rows(const Strided<const Real***>& rows, std::int64_t batch,
                                                  std::int64_t first, int width) {
  return {&rows(batch, 0, first), static_cast<std::int64_t>(rows.stride(1)), width};
}

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
  Strided<const Real***> key, value;  // [batch, tokens, heads · head_dim]
  Array<const std::uint8_t**> real;   // [batch, tokens]: 0 where a token is padding; empty where there is no padding
  std::int64_t origin;

  KOKKOS_INLINE_FUNCTION bool is_real(std::int64_t batch, std::int64_t token) const {
    return real.data() == nullptr || real(batch, token - origin) != 0;
  }
  /// Of one head, from `origin` on.
  KOKKOS_INLINE_FUNCTION TokenRows<Real> keys_of(std::int64_t batch, std::int64_t head, int width) const {
    return token_rows(key, batch, head * width, width);
  }
  KOKKOS_INLINE_FUNCTION TokenRows<Real> values_of(std::int64_t batch, std::int64_t head, int width) const {
    return token_rows(value, batch, head * width, width);
  }
  /// Of one sequence of the batch, from `origin` on; null: all are real.
  KOKKOS_INLINE_FUNCTION const std::uint8_t* mask(std::int64_t batch) const {
    return real.data() == nullptr ? nullptr : &real(batch, 0);
  }
};

}  // namespace bsbr::kernels
