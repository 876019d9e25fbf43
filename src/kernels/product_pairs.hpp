// Products of pairs of bfloat16: the loops for instructions that add both products of a pair to a sum in float. Apart
// from the instructions, so that tests run the loops on every CPU.
//
// `Pairs` has vectors of 16 sums, and one instruction:
//
//     Sums                               16 floats
//     Row                                16 pairs
//     Row load(const void*), Row repeat(std::uint32_t pair);  Sums load_sums(const float*), store_sums(float*, Sums)
//     Sums dot(Sums, Row, Row)           sums + the products of 16 pairs
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/bfloat16.hpp"
#include "kernels/product_kernel.hpp"
#include "kernels/sizes.hpp"
#include "kernels/vectors.hpp"

namespace bsbr::kernels {

/// Numbers [count] become bfloat16 in their place, with zeros behind them up to a multiple of `unit`: there is room.
/// Compilers do not vectorise this loop, since its stores may alias later loads. It is safe because each vector is
/// loaded before its half is stored, at a lower address.
[[gnu::always_inline]] inline void pack_row_of_bfloat16(std::int64_t count, std::int64_t unit, float* row) {
  char* packed = reinterpret_cast<char*>(row);
  std::int64_t i = 0;
#if !defined(__CUDACC__) && !defined(__HIPCC__)  // whose functions for both sides know no vectors
  constexpr int lanes = CpuRegisters::vector_bytes / 4;
  using Words [[gnu::vector_size(lanes * 4)]] = std::uint32_t;
  using Halves [[gnu::vector_size(lanes * 2)]] = std::uint16_t;
  for (; i + lanes <= count; i += lanes) {
    const auto words = load<Words>(packed + i * 4);
    store(packed + i * 2, __builtin_convertvector(bits_as_bfloat16(words) >> 16, Halves));
  }
#endif
  for (; i < count; ++i) {
    const auto word = load<std::uint32_t>(packed + i * 4);
    store(packed + i * 2, static_cast<std::uint16_t>(bits_as_bfloat16(word) >> 16));
  }
  const std::int64_t whole = (count + unit - 1) / unit * unit;
  if (whole > count) __builtin_memset(packed + count * 2, 0, static_cast<std::size_t>((whole - count) * 2));
}

/// The tiles of vectors of sums: columns are `vectors` vectors.
template <class Pairs, int most_rows, int vectors>
struct PairTiles {
  static constexpr int lanes = 16, columns = vectors * lanes;

  template <int rows>
  [[gnu::always_inline]] static void tile(int depth, const char* a, std::int64_t a_stride, const char* b, float* c,
                                          std::int64_t c_stride, bool add, const ReadAhead& ahead) {
    typename Pairs::Sums sums[rows][vectors] = {};
    for (int k = 0; k < depth / 2; ++k) {
      if (ahead.from != nullptr) {
        for (int i = 0; i < columns * 4; i += 64) __builtin_prefetch(ahead.from + k * ahead.step + i);
      }
      typename Pairs::Row b_row[vectors];
      for (int v = 0; v < vectors; ++v) b_row[v] = Pairs::load(b + (k * columns + v * lanes) * 4);
      for (int row = 0; row < rows; ++row) {
        std::uint32_t pair = 0;
        __builtin_memcpy(&pair, a + row * a_stride + k * 4, 4);
        const auto factor = Pairs::repeat(pair);
        for (int v = 0; v < vectors; ++v) sums[row][v] = Pairs::dot(sums[row][v], factor, b_row[v]);
      }
    }
    for (int row = 0; row < rows; ++row) {
      for (int v = 0; v < vectors; ++v) {
        float* target = c + row * c_stride + v * lanes;
        Pairs::store_sums(target, add ? Pairs::load_sums(target) + sums[row][v] : sums[row][v]);
      }
    }
  }

  static void tile_of(int rows, int depth, const void* a, std::int64_t a_stride, const void* b, float* c,
                      std::int64_t c_stride, bool add, const ReadAhead& ahead) {
    with_constant<most_rows>(rows, [&](auto count) {
      tile<count>(depth, static_cast<const char*>(a), a_stride * 2, static_cast<const char*>(b), c, c_stride, add,
                  ahead);
    });
  }

  static void prepare(std::int64_t count, float* row) { pack_row_of_bfloat16(count, 2, row); }

  static constexpr ProductKernel<float> kernel(const char* name) {
    return {.name = name,
            .rows = most_rows,
            .columns = columns,
            .together = 2,
            .depth_unit = 2,
            .a_bytes = 2,
            .tile = tile_of,
            .prepare = prepare};
  }
};

}  // namespace bsbr::kernels
