// The big matrix products: every kernel that this CPU runs against plain loops, and what packing makes of sizes that do
// not fit.
#include "kernels/product.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/bits.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

template <class Real>
class Product : public ::testing::Test {};
TYPED_TEST_SUITE(Product, Reals, RealNames);

template <class Real>
std::vector<Real> random_numbers(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  const auto numbers = random_matrix(rows, columns, seed).values;
  return std::vector<Real>(numbers.begin(), numbers.end());
}

/// c [rows, columns] of one tile, by a kernel; what is beyond `rows` must stay. Reading ahead changes no bit.
template <class Real>
std::vector<Real> tile_by(const kernels::ProductKernel<Real>& kernel, int rows, int depth, const std::vector<Real>& a,
                          std::int64_t a_stride, const std::vector<Real>& b, bool add) {
  std::vector<Real> c(static_cast<std::size_t>(kernel.rows * kernel.columns), Real(3)), ahead = c;
  kernel.tile(rows, depth, a.data(), a_stride, b.data(), c.data(), kernel.columns, add, {});
  kernel.tile(rows, depth, a.data(), a_stride, b.data(), ahead.data(), kernel.columns, add,
              {reinterpret_cast<const char*>(b.data()), 3 * static_cast<std::int64_t>(sizeof(Real))});
  EXPECT_TRUE(same_bits(ahead, c, kernel.columns)) << kernel.name;
  return c;
}

TYPED_TEST(Product, every_kernel_of_this_cpu_multiplies_tiles) {
  using Real = TypeParam;
  for (const auto& kernel : kernels::product_kernels<Real>()) {
    for (const int depth : {1, 2, 17, 512}) {
      const std::int64_t a_stride = depth + 5;
      const auto a = random_numbers<Real>(kernel.rows, a_stride, 1), b = random_numbers<Real>(depth, kernel.columns, 2);
      for (int rows = 1; rows <= kernel.rows; ++rows) {
        for (const bool add : {false, true}) {
          const auto c = tile_by(kernel, rows, depth, a, a_stride, b, add);
          for (int i = 0; i < kernel.rows * kernel.columns; ++i) {
            const int row = i / kernel.columns, column = i % kernel.columns;
            double sum = add ? 3 : 0, size = sum;
            for (int k = 0; k < depth; ++k) {
              const double term = static_cast<double>(a[static_cast<std::size_t>(row * a_stride + k)]) *
                                  static_cast<double>(b[static_cast<std::size_t>(k * kernel.columns + column)]);
              sum += term;
              size += std::fabs(term);
            }
            if (row >= rows) sum = 3;
            ASSERT_NEAR(static_cast<double>(c[static_cast<std::size_t>(i)]), sum,
                        (depth + 2) * size * static_cast<double>(std::numeric_limits<Real>::epsilon()))
                << kernel.name << ", " << rows << " rows, depth " << depth << ", at " << row << ", " << column;
          }
        }
      }
    }
  }
}

/// A row's bits do not depend on the tile that it is computed in.
TYPED_TEST(Product, rows_of_a_tile_have_the_bits_that_they_have_alone) {
  using Real = TypeParam;
  constexpr int depth = 129;
  for (const auto& kernel : kernels::product_kernels<Real>()) {
    const auto a = random_numbers<Real>(kernel.rows, depth, 3), b = random_numbers<Real>(depth, kernel.columns, 4);
    const auto together = tile_by(kernel, kernel.rows, depth, a, depth, b, false);
    for (int row = 0; row < kernel.rows; ++row) {
      const std::vector<Real> one(a.begin() + row * depth, a.begin() + (row + 1) * depth);
      const auto alone = tile_by(kernel, 1, depth, one, depth, b, false);
      for (int column = 0; column < kernel.columns; ++column) {
        ASSERT_EQ(alone[static_cast<std::size_t>(column)],
                  together[static_cast<std::size_t>(row * kernel.columns + column)])
            << kernel.name;
      }
    }
  }
}

TYPED_TEST(Product, the_fastest_kernel_is_one_for_the_widest_vectors) {
  const auto all = kernels::product_kernels<TypeParam>();
  EXPECT_STREQ(kernels::product_kernel<TypeParam>().name, all.front().name);
  for (const auto& kernel : all) EXPECT_GE(all.front().columns, kernel.columns) << kernel.name;
}

/// Holds `product`, rows of which lie `stride` numbers apart, against plain loops over input [rows, in] and weight
/// [out, in].
template <class Real>
void expect_product(std::int64_t rows, std::int64_t out, std::int64_t in, const std::vector<Real>& input,
                    const std::vector<Real>& weight, const std::vector<Real>& product, std::int64_t stride) {
  for (std::int64_t i = 0; i < rows * out; ++i) {
    double sum = 0, size = 0;
    for (std::int64_t k = 0; k < in; ++k) {
      const double term = static_cast<double>(input[static_cast<std::size_t>(i / out * in + k)]) *
                          static_cast<double>(weight[static_cast<std::size_t>(i % out * in + k)]);
      sum += term;
      size += std::fabs(term);
    }
    ASSERT_NEAR(static_cast<double>(product[static_cast<std::size_t>(i / out * stride + i % out)]), sum,
                static_cast<double>(in + 2) * size * static_cast<double>(std::numeric_limits<Real>::epsilon()))
        << "[" << rows << ", " << in << "] by [" << out << ", " << in << "], at " << i / out << ", " << i % out;
  }
}

TYPED_TEST(Product, packed_weights_multiply_as_they_are_for_all_sizes) {
  if (!kernels::on_host) GTEST_SKIP() << "a GPU's products are the BLAS'";
  using Real = TypeParam;
  for (const std::int64_t out : {1, 5, 64, 65, 300, 520}) {
    for (const std::int64_t in : {1, 12, 512, 513, 1100}) {
      constexpr std::int64_t rows = 13;
      const auto matrix = random_numbers<Real>(out, in, 5), input = random_numbers<Real>(rows, in, 6);
      const kernels::ProductWeight<Real> weight{Array<const Real**>(to_device<Real**>(matrix, out, in))};
      EXPECT_EQ(weight.out(), out);
      EXPECT_EQ(weight.in(), in);
      const std::int64_t stride = weight.row_stride(out);
      std::vector<Real> product(static_cast<std::size_t>(rows * stride), std::numeric_limits<Real>::quiet_NaN());
      weight.multiply(rows, input.data(), in, product.data(), stride);
      expect_product(rows, out, in, input, matrix, product, stride);
    }
  }
}

/// Threads that share out the columns form each element as one of them does.
TYPED_TEST(Product, of_few_rows_by_all_threads_has_the_bits_of_one_thread) {
  if (!kernels::on_host) GTEST_SKIP() << "a GPU's products are the BLAS'";
  using Real = TypeParam;
  for (const std::int64_t out : {1, 65, 300}) {
    for (const std::int64_t in : {1, 513, 1100}) {
      const kernels::ProductWeight<Real> weight{
          Array<const Real**>(to_device<Real**>(random_numbers<Real>(out, in, 5), out, in))};
      const std::int64_t stride = weight.row_stride(out);
      for (const std::int64_t rows : {1, 7, 16}) {
        const auto input = random_numbers<Real>(rows, in, 6);
        std::vector<Real> one(static_cast<std::size_t>(rows * stride), std::numeric_limits<Real>::quiet_NaN());
        auto all = one;
        weight.multiply(rows, input.data(), in, one.data(), stride);
        weight.multiply(Execution(), rows, input.data(), all.data(), kernels::make_product_workspace());
        for (std::int64_t i = 0; i < rows * out; ++i) {
          const auto at = static_cast<std::size_t>(i / out * stride + i % out);
          ASSERT_EQ(all[at], one[at]) << rows << " rows by [" << out << ", " << in << "], at " << i / out << ", "
                                      << i % out;
        }
      }
    }
  }
}

template <class Real>
std::vector<Real> transposed(const std::vector<Real>& matrix, std::int64_t rows, std::int64_t columns) {
  std::vector<Real> result;
  for (std::int64_t i = 0; i < rows * columns; ++i)
    result.push_back(matrix[static_cast<std::size_t>(i % rows * columns + i / rows)]);
  return result;
}

/// input [rows, in] by a weight, with NaN where nothing may be read.
template <class Real>
std::vector<Real> multiplied(const kernels::ProductWeight<Real>& weight, std::int64_t rows,
                             const std::vector<Real>& input) {
  const std::int64_t stride = weight.row_stride(weight.out());
  std::vector<Real> product(static_cast<std::size_t>(rows * stride), std::numeric_limits<Real>::quiet_NaN());
  weight.multiply(rows, input.data(), weight.in(), product.data(), stride);
  return product;
}

/// dx = dy · W: the matrix is that of a layer, [depth, columns] here.
TYPED_TEST(Product, of_a_transposed_matrix_is_that_of_plain_loops_for_all_sizes) {
  if (!kernels::on_host) GTEST_SKIP() << "a GPU's products are the BLAS'";
  using Real = TypeParam;
  for (const std::int64_t out : {1, 5, 64, 65, 300, 520}) {
    for (const std::int64_t in : {1, 12, 512, 513, 1100}) {
      constexpr std::int64_t rows = 13;
      const auto matrix = random_numbers<Real>(in, out, 15), input = random_numbers<Real>(rows, in, 16);
      const kernels::ProductWeight<Real> weight{Array<const Real**>(to_device<Real**>(matrix, in, out)),
                                                kernels::Transpose::yes};
      EXPECT_EQ(weight.out(), out);
      EXPECT_EQ(weight.in(), in);
      const auto product = multiplied(weight, rows, input);
      expect_product(rows, out, in, input, transposed(matrix, in, out), product, weight.row_stride(out));
      for (std::int64_t row = 0; row < rows; ++row) {  // bits do not depend on the rows that are multiplied together
        const auto alone = multiplied(weight, 1, {input.begin() + row * in, input.begin() + (row + 1) * in});
        ASSERT_TRUE(same_bits(alone, rows_of(product, weight.row_stride(out), row, 1), weight.row_stride(out)));
      }
    }
  }
}

TYPED_TEST(Product, of_a_matrix_and_of_its_transpose_packed_the_other_way_are_the_same) {
  if (!kernels::on_host) GTEST_SKIP() << "a GPU's products are the BLAS'";
  using Real = TypeParam;
  constexpr std::int64_t rows = 7, out = 77, in = 1100;
  const auto matrix = random_numbers<Real>(out, in, 17), input = random_numbers<Real>(rows, in, 18);
  const kernels::ProductWeight<Real> plain{Array<const Real**>(to_device<Real**>(matrix, out, in))};
  const kernels::ProductWeight<Real> turned{
      Array<const Real**>(to_device<Real**>(transposed(matrix, out, in), in, out)), kernels::Transpose::yes};
  EXPECT_TRUE(same_bits(multiplied(plain, rows, input), multiplied(turned, rows, input), plain.row_stride(out)));
}

TYPED_TEST(Product, of_a_weight_that_is_assigned_anew_are_those_of_the_new_one_in_all_copies) {
  if (!kernels::on_host) GTEST_SKIP() << "a GPU's products are the BLAS'";
  using Real = TypeParam;
  constexpr std::int64_t rows = 3, out = 70, in = 515;
  for (const auto transpose : {kernels::Transpose::no, kernels::Transpose::yes}) {
    const bool plain = transpose == kernels::Transpose::no;
    const auto array = [&](std::uint64_t seed) {
      return Array<const Real**>(
          to_device<Real**>(random_numbers<Real>(out, in, seed), plain ? out : in, plain ? in : out));
    };
    const auto input = random_numbers<Real>(rows, in, 19);
    kernels::ProductWeight<Real> weight{array(20), transpose};
    const auto copy = weight;
    weight.assign(Execution(), array(21));
    const auto expected = multiplied(kernels::ProductWeight<Real>{array(21), transpose}, rows, input);
    EXPECT_TRUE(same_bits(multiplied(weight, rows, input), expected, weight.row_stride(out)));
    EXPECT_TRUE(same_bits(multiplied(copy, rows, input), expected, weight.row_stride(out)));
  }
}

/// c = a · b, of them or of their transposes, as the definition of a BLAS' gemm has it: column after column, as many
/// numbers apart as a column has rows.
template <class Real>
void plain_gemm(const kernels::BlasMatrices& matrices, const Real* a, const Real* b, Real* c) {
  const bool turn_a = matrices.of_a == kernels::Transpose::yes, turn_b = matrices.of_b == kernels::Transpose::yes;
  const auto [m, depth] =
      turn_a ? kernels::ColumnMajor{matrices.a.columns, matrices.a.rows} : kernels::ColumnMajor{matrices.a};
  const auto [terms, n] =
      turn_b ? kernels::ColumnMajor{matrices.b.columns, matrices.b.rows} : kernels::ColumnMajor{matrices.b};
  ASSERT_EQ(matrices.c.rows, m);
  ASSERT_EQ(matrices.c.columns, n);
  ASSERT_EQ(depth, terms);
  const std::int64_t lda = matrices.a.rows, ldb = matrices.b.rows;
  for (std::int64_t j = 0; j < n; ++j) {
    for (std::int64_t i = 0; i < m; ++i) {
      c[i + j * m] = 0;
      for (std::int64_t k = 0; k < depth; ++k)
        c[i + j * m] += a[turn_a ? k + i * lda : i + k * lda] * b[turn_b ? j + k * ldb : k + j * ldb];
    }
  }
}

const std::vector<std::int64_t> row_counts{1, 3, 13, 64, 257}, widths{1, 5, 12, 33, 64, 130};

TYPED_TEST(Product, a_blas_that_is_asked_for_columns_forms_rows) {
  using Real = TypeParam;
  using kernels::Transpose;
  for (const std::int64_t rows : row_counts) {
    for (const std::int64_t out : widths) {
      for (const std::int64_t in : widths) {
        const auto weight = random_numbers<Real>(out, in, 7), input = random_numbers<Real>(rows, in, 8);
        for (const auto of_input : {Transpose::no, Transpose::yes}) {
          for (const auto of_weight : {Transpose::no, Transpose::yes}) {
            std::vector<Real> product(static_cast<std::size_t>(rows * out), std::numeric_limits<Real>::quiet_NaN());
            const auto left = of_input == Transpose::no ? input : transposed(input, rows, in),
                       right = of_weight == Transpose::yes ? weight : transposed(weight, out, in);
            const kernels::MatrixProduct<Real> of{
                rows, out, in, {left.data(), of_input}, {right.data(), of_weight}, product.data(), false};
            plain_gemm(of.for_blas(), of.right.data, of.left.data, of.product);
            expect_product(rows, out, in, input, weight, product, out);
          }
        }
      }
    }
  }
}

/// Numbers that begin `before` numbers after the beginning of an array: as far from any alignment as a weight may be in
/// its model.
template <class Real>
struct Shifted {
  Array<Real*> all;
  Real* data;

  Shifted(const std::vector<Real>& numbers, std::int64_t before)
      : all("test::shifted", numbers.size() + static_cast<std::size_t>(before)), data(all.data() + before) {
    Kokkos::deep_copy(view(numbers.size()), to_device<Real*>(numbers, numbers.size()));
  }
  Array<Real*> view(std::size_t count) const { return Array<Real*>(data, count); }
};

TYPED_TEST(Product, of_a_gpu_s_blas_are_those_of_plain_loops_for_all_sizes_and_alignments) {
  if (kernels::on_host) GTEST_SKIP() << "a host's products are its own";
  if (kernels::on_cuda && kernels::tf32_products())
    GTEST_SKIP() << "BSBR_TF32 asks for less than the precision of float";
  using Real = TypeParam;
  const Execution execution;
  const kernels::ProductWorkspace workspace = kernels::make_product_workspace();
  for (const std::int64_t rows : row_counts) {
    for (const std::int64_t out : widths) {
      for (const std::int64_t in : widths) {
        const std::int64_t before = (rows + out + in) % 5;
        const auto matrix = random_numbers<Real>(out, in, 9), input = random_numbers<Real>(rows, in, 10);
        const Shifted<Real> weight(matrix, before), from(input, before);
        const Shifted<Real> to(
            std::vector<Real>(static_cast<std::size_t>(rows * out), std::numeric_limits<Real>::quiet_NaN()), before);
        const auto expect_right = [&](const kernels::ProductWeight<Real>& factor, const std::vector<Real>& plain) {
          for (int round = 0; round < 2; ++round)
            factor.multiply(execution, rows, from.data, to.data, workspace);  // chosen, then known
          execution.fence();
          expect_product(rows, out, in, input, plain, to_host(to.view(static_cast<std::size_t>(rows * out))), out);
        };
        expect_right(kernels::ProductWeight<Real>{Array<const Real**>(weight.data, out, in)}, matrix);
        expect_right(kernels::ProductWeight<Real>{Array<const Real**>(weight.data, in, out), kernels::Transpose::yes},
                     transposed(matrix, in, out));
      }
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
