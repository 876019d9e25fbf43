// Products of factors that are rounded to bfloat16: the rounding, every kernel, and those for instructions that this
// CPU lacks with these emulated, against plain loops; and whole products.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/bfloat16.hpp"
#include "kernels/emulated_instructions.hpp"
#include "kernels/product.hpp"
#include "support/bits.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::ProductKernel;

float of_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

TEST(Bfloat16, rounds_to_nearest_and_ties_to_even) {
  const auto expect = [](std::uint32_t given, std::uint32_t wanted) {
    EXPECT_EQ(kernels::bits_as_bfloat16(given), wanted) << std::hex << given;
  };
  expect(0x3f800000, 0x3f800000);
  expect(0x3f807fff, 0x3f800000);  // just below the middle
  expect(0x3f808000, 0x3f800000);  // ties
  expect(0x3f818000, 0x3f820000);
  expect(0x3f808001, 0x3f810000);
  expect(0xbf808001, 0xbf810000);
  expect(0x3fffffff, 0x40000000);  // into the exponent
  expect(0x7f7fffff, 0x7f800000);  // the largest float: infinity
  expect(0x7f800000, 0x7f800000);
  expect(0xff800000, 0xff800000);
  expect(0x00000001, 0x00000000);  // the smallest float
  expect(0x80000000, 0x80000000);
  for (const std::uint32_t nan : {0x7f800001U, 0x7fffffffU, 0xff80ffffU})
    EXPECT_TRUE(std::isnan(kernels::as_bfloat16(of_bits(nan)))) << std::hex << nan;
}

TEST(Bfloat16, has_the_reference_s_rounding) {
  auto numbers = random_matrix(1, 4000, 3);
  for (std::size_t i = 0; i < numbers.values.size(); ++i)
    numbers.values[i] =
        static_cast<double>(std::ldexp(static_cast<float>(numbers.values[i]), static_cast<int>(i % 60) - 30));
  const auto rounded = reference::factor(numbers, Rounding::bfloat16);
  for (std::size_t i = 0; i < numbers.values.size(); ++i)
    ASSERT_EQ(static_cast<double>(kernels::as_bfloat16(static_cast<float>(numbers.values[i]))), rounded.values[i]);
}

/// A row that is packed in its place has the bits of its numbers one by one, then zeros up to the unit.
TEST(Bfloat16, rows_are_packed_in_their_place) {
  constexpr std::int64_t unit = 32, most = 4 * unit;
  for (std::int64_t count = 1; count <= most; ++count) {
    std::vector<std::uint32_t> row(most);
    for (std::int64_t i = 0; i < count; ++i)  // NaN, infinity and ties among them
      row[static_cast<std::size_t>(i)] =
          static_cast<std::uint32_t>(i) * 0x2041'8001U + (i % 3 == 0 ? 0x7f80'0000U : 0U);
    const std::vector<std::uint32_t> given = row;
    kernels::pack_row_of_bfloat16(count, unit, reinterpret_cast<float*>(row.data()));
    std::vector<std::uint16_t> packed(2 * most);
    std::memcpy(packed.data(), row.data(), packed.size() * sizeof(packed[0]));
    for (std::int64_t i = 0; i < (count + unit - 1) / unit * unit; ++i) {
      const std::uint32_t wanted = i < count ? kernels::bits_as_bfloat16(given[static_cast<std::size_t>(i)]) >> 16 : 0;
      ASSERT_EQ(packed[static_cast<std::size_t>(i)], wanted) << i << " of " << count;
    }
  }
}

/// Those of this CPU, and those whose instructions are emulated.
std::vector<ProductKernel<float>> all_kernels() {
  auto all = kernels::product_kernels<float>(Rounding::bfloat16);
  all.push_back(kernels::PairTiles<EmulatedPairs, 6, 4>::kernel("avx512_bf16, emulated"));
  all.push_back(kernels::MatrixTiles<EmulatedRegisters>::kernel("amx, emulated"));
  return all;
}

std::vector<float> random_floats(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  const auto numbers = random_matrix(rows, columns, seed).values;
  return {numbers.begin(), numbers.end()};
}

/// Rows [rows, depth] as factors of a kernel, `stride` floats apart.
std::vector<float> prepared(const ProductKernel<float>& kernel, std::int64_t rows, std::int64_t depth,
                            std::int64_t stride, const std::vector<float>& numbers) {
  std::vector<float> factors(static_cast<std::size_t>(rows * stride), std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t row = 0; row < rows; ++row) {
    std::copy_n(numbers.begin() + row * depth, depth, factors.begin() + row * stride);
    kernel.prepare(depth, factors.data() + row * stride);
  }
  return factors;
}

/// b [depth, columns] as a kernel reads it: [depth / 2][columns][2], with zeros up to its unit.
std::vector<std::uint16_t> in_pairs(const ProductKernel<float>& kernel, std::int64_t depth,
                                    const std::vector<float>& b) {
  const std::int64_t whole = (depth + kernel.depth_unit - 1) / kernel.depth_unit * kernel.depth_unit;
  std::vector<std::uint16_t> pairs(static_cast<std::size_t>(whole * kernel.columns));
  for (std::int64_t i = 0; i < depth * kernel.columns; ++i) {
    const std::int64_t k = i / kernel.columns, column = i % kernel.columns;
    const auto bits = __builtin_bit_cast(std::uint32_t, b[static_cast<std::size_t>(i)]);
    pairs[static_cast<std::size_t>((k / 2 * kernel.columns + column) * 2 + k % 2)] =
        static_cast<std::uint16_t>(kernels::bits_as_bfloat16(bits) >> 16);
  }
  return pairs;
}

/// c [kernel.rows, kernel.columns], 3 before.
std::vector<float> tile_by(const ProductKernel<float>& kernel, int rows, std::int64_t depth,
                           const std::vector<float>& a, const std::vector<float>& b, bool add) {
  const std::int64_t stride = depth + 40;
  const auto factors = prepared(kernel, rows, depth, stride, a);
  const auto pairs = in_pairs(kernel, depth, b);
  std::vector<float> c(static_cast<std::size_t>(kernel.rows * kernel.columns), 3), ahead = c;
  const auto form = [&](std::vector<float>& target, const kernels::ReadAhead& reads) {
    if (kernel.begin != nullptr) kernel.begin();
    kernel.tile(rows, static_cast<int>(pairs.size()) / kernel.columns, factors.data(),
                stride * static_cast<std::int64_t>(sizeof(float)) / kernel.a_bytes, pairs.data(), target.data(),
                kernel.columns, add, reads);
    if (kernel.end != nullptr) kernel.end();
  };
  form(c, {});
  form(ahead, {reinterpret_cast<const char*>(pairs.data()), 12});
  EXPECT_TRUE(same_bits(ahead, c, kernel.columns)) << kernel.name;
  return c;
}

TEST(Bfloat16, every_kernel_multiplies_rounded_factors) {
  for (const auto& kernel : all_kernels()) {
    for (const int depth : {1, 2, 17, 32, 51, 512}) {
      const auto a = random_floats(kernel.rows, depth, 1), b = random_floats(depth, kernel.columns, 2);
      for (const int rows : {1, 2, kernel.rows - 1, kernel.rows}) {
        for (const bool add : {false, true}) {
          const auto c = tile_by(kernel, rows, depth, a, b, add);
          for (int i = 0; i < kernel.rows * kernel.columns; ++i) {
            const int row = i / kernel.columns, column = i % kernel.columns;
            double sum = add || row >= rows ? 3 : 0, size = sum;
            for (int k = 0; row < rows && k < depth; ++k) {
              const double term =
                  static_cast<double>(kernels::as_bfloat16(a[static_cast<std::size_t>(row * depth + k)])) *
                  static_cast<double>(kernels::as_bfloat16(b[static_cast<std::size_t>(k * kernel.columns + column)]));
              sum += term;
              size += std::fabs(term);
            }
            ASSERT_NEAR(static_cast<double>(c[static_cast<std::size_t>(i)]), sum,
                        (depth + 2) * size * static_cast<double>(std::numeric_limits<float>::epsilon()))
                << kernel.name << ", " << rows << " rows, depth " << depth << ", at " << row << ", " << column;
          }
        }
      }
    }
  }
}

/// A row's bits do not depend on the tile that it is computed in.
TEST(Bfloat16, rows_of_a_tile_have_the_bits_that_they_have_alone) {
  constexpr int depth = 129;
  for (const auto& kernel : all_kernels()) {
    const auto a = random_floats(kernel.rows, depth, 3), b = random_floats(depth, kernel.columns, 4);
    const auto together = tile_by(kernel, kernel.rows, depth, a, b, false);
    for (int row = 0; row < kernel.rows; ++row) {
      const auto alone = tile_by(kernel, 1, depth, {a.begin() + row * depth, a.begin() + (row + 1) * depth}, b, false);
      for (int column = 0; column < kernel.columns; ++column) {
        ASSERT_EQ(alone[static_cast<std::size_t>(column)],
                  together[static_cast<std::size_t>(row * kernel.columns + column)])
            << kernel.name;
      }
    }
  }
}

/// Sums of an instruction are those of its emulation, but for how it rounds within them.
TEST(Bfloat16, instructions_agree_with_their_emulation) {
  const auto all = all_kernels();
  constexpr int depth = 96;
  bool compares = false;
  for (const auto& kernel : all) {
    for (const auto& other : all) {
      if (std::string(kernel.name) + ", emulated" != other.name) continue;
      compares = true;
      const auto a = random_floats(kernel.rows, depth, 5), b = random_floats(depth, kernel.columns, 6);
      const auto real = tile_by(kernel, kernel.rows, depth, a, b, false),
                 emulated = tile_by(other, kernel.rows, depth, a, b, false);
      for (std::size_t i = 0; i < real.size(); ++i) ASSERT_NEAR(real[i], emulated[i], 1e-5) << kernel.name;
    }
  }
  if (!compares) GTEST_SKIP() << "this CPU has neither AMX nor AVX-512 BF16";
}

/// Whole products: rounded rows by a packed weight, for all sizes. Parts of the columns, by several threads, and rows
/// that are few, or widen a weight for each tile of rows, have the same bits.
TEST(Bfloat16, packed_weights_multiply_rounded_rows_for_all_sizes) {
  if (!kernels::on_host) GTEST_SKIP() << "a GPU's products are the BLAS'";
  for (const std::int64_t out : {1, 5, 65, 300}) {
    for (const std::int64_t in : {1, 12, 513, 1100}) {
      constexpr std::int64_t few = 13, rows = (kernels::HostSizes::few_row_tiles + 2) * 16 + 3;
      const auto matrix = random_floats(out, in, 5), input = random_floats(rows, in, 6);
      const kernels::ProductWeight<float> weight(Array<const float**>(to_device<float**>(matrix, out, in)),
                                                 kernels::Transpose::no, Rounding::bfloat16);
      const std::int64_t in_stride = weight.row_stride(in), stride = weight.row_stride(out);
      std::vector<float> factors(static_cast<std::size_t>(rows * in_stride)),
          product(static_cast<std::size_t>(rows * stride), std::numeric_limits<float>::quiet_NaN()), shared = product;
      for (std::int64_t row = 0; row < rows; ++row) {
        std::copy_n(input.begin() + row * in, in, factors.begin() + row * in_stride);
        weight.round_row(kernels::SerialTeam{}, factors.data() + row * in_stride);
      }
      weight.multiply(rows, factors.data(), in_stride, product.data(), stride);
      for (std::int64_t i = 0; i < rows * out; ++i) {
        double sum = 0, size = 0;
        for (std::int64_t k = 0; k < in; ++k) {
          const double term =
              static_cast<double>(kernels::as_bfloat16(input[static_cast<std::size_t>(i / out * in + k)])) *
              static_cast<double>(kernels::as_bfloat16(matrix[static_cast<std::size_t>(i % out * in + k)]));
          sum += term;
          size += std::fabs(term);
        }
        ASSERT_NEAR(static_cast<double>(product[static_cast<std::size_t>(i / out * stride + i % out)]), sum,
                    static_cast<double>(in + 2) * size * static_cast<double>(std::numeric_limits<float>::epsilon()));
      }
      for (const std::int64_t count : {rows, few}) {
        for (int part = 0; part < 3; ++part)
          weight.multiply_part(part, 3, count, factors.data(), in_stride, shared.data(), stride);
        for (std::int64_t row = 0; row < count; ++row) {
          for (std::int64_t column = 0; column < out; ++column)
            ASSERT_EQ(shared[static_cast<std::size_t>(row * stride + column)],
                      product[static_cast<std::size_t>(row * stride + column)])
                << count << " rows";
        }
      }
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
