// Products of bfloat16 by instructions that multiply whole matrices in registers, as AMX has them: the loops. Apart
// from the instructions, so that tests run the loops on every CPU.
//
// `Registers` has eight registers of 16 rows of 64 bytes, and:
//
//     configure(rows)                         the rows of registers 0, 1, 4 and of 2, 3, 5: those of c and a
//     zero<r>(), load<r>(from, stride), store<r>(to, stride)     strides in bytes
//     dot<c, a, b>()                          register c [rows, 16 floats] += a [rows, 16 pairs] · b [16 pairs, 16]
//     release()                               no register is of use from here on
#pragma once

#include <cstdint>

#include "kernels/product_pairs.hpp"

namespace bsbr::kernels {

/// Rows of c and a in the two registers of a tile.
struct RegisterRows {
  int upper, lower;
};

/// A tile is 2 × 2 registers of sums: 0, 1 above 2, 3; a is in 4 and 5, b in 6 and 7.
template <class Registers>
struct MatrixTiles {
  static constexpr int register_rows = 16, most_rows = 2 * register_rows, columns = 32, depth_unit = 32;

  template <bool has_lower>
  [[gnu::always_inline]] static void multiply(int depth, const char* a, std::int64_t a_stride, const char* b, float* c,
                                              std::int64_t c_stride, bool add, const ReadAhead& ahead) {
    constexpr int row_bytes = columns * 4, half = 64;
    float* lower = c + register_rows * c_stride;
    const std::int64_t stride = c_stride * 4;
    if (add) {
      Registers::template load<0>(c, stride);
      Registers::template load<1>(c + register_rows, stride);
      if constexpr (has_lower) {
        Registers::template load<2>(lower, stride);
        Registers::template load<3>(lower + register_rows, stride);
      }
    } else {
      Registers::template zero<0>();
      Registers::template zero<1>();
      Registers::template zero<2>();
      Registers::template zero<3>();
    }
    for (int k = 0; k < depth; k += depth_unit) {
      const char* b_rows = b + k / 2 * row_bytes;
      for (int i = 0; ahead.from != nullptr && i < depth_unit / 2; ++i) {
        const char* next = ahead.from + (k / 2 + i) * ahead.step;
        __builtin_prefetch(next);
        __builtin_prefetch(next + half);
      }
      Registers::template load<4>(a + k * 2, a_stride);
      Registers::template load<6>(b_rows, row_bytes);
      Registers::template load<7>(b_rows + half, row_bytes);
      Registers::template dot<0, 4, 6>();
      Registers::template dot<1, 4, 7>();
      if constexpr (has_lower) {
        Registers::template load<5>(a + register_rows * a_stride + k * 2, a_stride);
        Registers::template dot<2, 5, 6>();
        Registers::template dot<3, 5, 7>();
      }
    }
    Registers::template store<0>(c, stride);
    Registers::template store<1>(c + register_rows, stride);
    if constexpr (has_lower) {
      Registers::template store<2>(lower, stride);
      Registers::template store<3>(lower + register_rows, stride);
    }
  }

  /// Begins with, and leaves, registers for whole tiles.
  static void tile_of(int rows, int depth, const void* a, std::int64_t a_stride, const void* b, float* c,
                      std::int64_t c_stride, bool add, const ReadAhead& ahead) {
    const auto* left = static_cast<const char*>(a);
    const auto* right = static_cast<const char*>(b);
    const bool is_whole = rows == most_rows, has_lower = rows > register_rows;
    if (!is_whole)
      Registers::configure({has_lower ? register_rows : rows, has_lower ? rows - register_rows : register_rows});
    if (has_lower)
      multiply<true>(depth, left, a_stride * 2, right, c, c_stride, add, ahead);
    else
      multiply<false>(depth, left, a_stride * 2, right, c, c_stride, add, ahead);
    if (!is_whole) begin();
  }

  static void prepare(std::int64_t count, float* row) { pack_row_of_bfloat16(count, depth_unit, row); }
  static void begin() { Registers::configure({register_rows, register_rows}); }
  static void end() { Registers::release(); }

  static constexpr ProductKernel<float> kernel(const char* name) {
    return {.name = name,
            .rows = most_rows,
            .columns = columns,
            .together = 2,
            .depth_unit = depth_unit,
            .a_bytes = 2,
            .multiplies_matrices = true,
            .tile = tile_of,
            .prepare = prepare,
            .begin = begin,
            .end = end};
  }
};

}  // namespace bsbr::kernels
