// Gradients of weights over the rows of a leaf, against plain loops; that they keep their bits in pieces of a leaf.
#include "kernels/outer_product.hpp"

#include <gtest/gtest.h>

#include "bsbr/error.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::OuterProductBuffers;
constexpr std::int64_t block = kernels::HostSizes::product_depth;

/// output_gradient [rows, out], input [rows, in], and what is there before, [out, in].
struct OuterProblem {
  std::int64_t rows, out, in;
  std::vector<double> output_gradient, input, before;

  OuterProblem(std::int64_t all, std::int64_t height, std::int64_t width)
      : rows(all),
        out(height),
        in(width),
        output_gradient(in_float(random_matrix(all, height, 31).values)),
        input(in_float(random_matrix(all, width, 32).values)),
        before(in_float(random_matrix(height, width, 33).values)) {}
};

template <class Real>
std::vector<Real> plain_loops(const OuterProblem& problem) {
  std::vector<Real> result(problem.before.begin(), problem.before.end());
  for (std::int64_t i = 0; i < problem.out * problem.in; ++i) {
    Real sum = 0;
    for (std::int64_t t = 0; t < problem.rows; ++t) {
      sum += static_cast<Real>(problem.output_gradient[static_cast<std::size_t>(t * problem.out + i / problem.in)]) *
             static_cast<Real>(problem.input[static_cast<std::size_t>(t * problem.in + i % problem.in)]);
    }
    result[static_cast<std::size_t>(i)] += sum;
  }
  return result;
}

/// Rows [first, first + count) of an array of `width` columns.
template <class Real>
Array<const Real**> part(const Array<Real**>& rows, std::int64_t first, std::int64_t count) {
  const auto width = static_cast<std::int64_t>(rows.extent(1));
  return Array<const Real**>(rows.data() + first * width, count, width);
}

/// By the kernel, in pieces that begin at these rows.
template <class Real>
std::vector<Real> by_kernel(const OuterProblem& problem, std::vector<std::int64_t> cuts = {0}) {
  const Execution execution;
  const auto output_gradient = to_device<Real**>(problem.output_gradient, problem.rows, problem.out),
             input = to_device<Real**>(problem.input, problem.rows, problem.in),
             result = to_device<Real**>(problem.before, problem.out, problem.in);
  const OuterProductBuffers<Real> buffers(OuterProductBuffers<Real>::elements(problem.out, problem.in));
  Kokkos::deep_copy(buffers.packed(), std::numeric_limits<Real>::quiet_NaN());
  cuts.push_back(problem.rows);
  for (std::size_t i = 1; i < cuts.size(); ++i) {
    const std::int64_t count = cuts[i] - cuts[i - 1];
    kernels::add_outer_product(execution, buffers, part(output_gradient, cuts[i - 1], count),
                               part(input, cuts[i - 1], count), result);
  }
  execution.fence();
  return to_host(result);
}

template <class Real>
void expect_right(const OuterProblem& problem) {
  const auto exact = plain_loops<double>(problem);
  const std::vector<std::int64_t> shape{problem.out, problem.in};
  EXPECT_TRUE(all_close({by_kernel<Real>(problem), shape}, {exact, shape}, bound(exact, plain_loops<Real>(problem))))
      << problem.rows << " rows";
}

template <class Real>
class OuterProduct : public ::testing::Test {};
TYPED_TEST_SUITE(OuterProduct, Reals, RealNames);

TYPED_TEST(OuterProduct, is_that_of_plain_loops_for_all_sizes) {
  for (const std::int64_t rows : {1, 7, 64, 129}) {
    for (const std::int64_t out : {1, 5, 6, 13, 65}) {
      for (const std::int64_t in : {1, 3, 16, 33, 130}) expect_right<TypeParam>(OuterProblem(rows, out, in));
    }
  }
}

TYPED_TEST(OuterProduct, of_more_rows_than_a_block_is_that_of_plain_loops) {
  for (const std::int64_t rows : {block - 1, block, block + 1, 3 * block + 5})
    expect_right<TypeParam>(OuterProblem(rows, 21, 37));
}

TYPED_TEST(OuterProduct, wider_than_a_block_of_columns_is_that_of_plain_loops) {
  expect_right<TypeParam>(OuterProblem(3, 207, 2 * kernels::HostSizes::product_columns + 9));
}

TYPED_TEST(OuterProduct, of_no_rows_changes_nothing) {
  const OuterProblem problem(0, 5, 7);
  EXPECT_TRUE(same_bits(widen(by_kernel<TypeParam>(problem)), problem.before, problem.in));
}

TYPED_TEST(OuterProduct, of_shapes_that_do_not_fit_is_refused) {
  const Array<TypeParam**> two_by_three("test::a", 2, 3), two_by_five("test::b", 2, 5), four_by_five("test::c", 4, 5),
      three_by_five("test::d", 3, 5), three_by_six("test::e", 3, 6);
  const OuterProductBuffers<TypeParam> buffers(OuterProductBuffers<TypeParam>::elements(3, 5));
  const Execution execution;
  EXPECT_NO_THROW(kernels::add_outer_product(execution, buffers, two_by_three, two_by_five, three_by_five));
  EXPECT_THROW(kernels::add_outer_product(execution, buffers, two_by_three, four_by_five, three_by_five), ShapeError);
  EXPECT_THROW(kernels::add_outer_product(execution, buffers, two_by_five, two_by_three, three_by_five), ShapeError);
  EXPECT_THROW(kernels::add_outer_product(execution, buffers, two_by_three, two_by_five, three_by_six), ShapeError);
  const Array<TypeParam**> wide("test::f", 2, 500), large("test::g", 3, 500);
  if (kernels::on_host) {
    EXPECT_THROW(kernels::add_outer_product(execution, buffers, two_by_three, wide, large), ShapeError);
  }
}

TYPED_TEST(OuterProduct, of_a_leaf_in_pieces_of_whole_blocks_has_the_bits_of_the_whole) {
  if (!kernels::on_host) GTEST_SKIP() << "promised on a host only: on a GPU the BLAS decides";
  const OuterProblem problem(3 * block + 9, 20, 35);
  const auto whole = by_kernel<TypeParam>(problem);
  for (const auto& cuts : {std::vector<std::int64_t>{0, block}, {0, 2 * block}, {0, block, 2 * block, 3 * block}})
    EXPECT_TRUE(same_bits(by_kernel<TypeParam>(problem, cuts), whole, problem.in));
}

/// An element's bits do not depend on where it lies in the gradient.
TYPED_TEST(OuterProduct, rows_of_the_gradient_have_the_bits_that_they_have_alone) {
  if (!kernels::on_host) GTEST_SKIP() << "promised on a host only: on a GPU the BLAS decides";
  const OuterProblem problem(block + 3, 17, 70);
  const auto whole = by_kernel<TypeParam>(problem);
  for (std::int64_t row = 0; row < problem.out; ++row) {
    OuterProblem one(problem.rows, 1, problem.in);
    for (std::int64_t t = 0; t < problem.rows; ++t)
      one.output_gradient[static_cast<std::size_t>(t)] =
          problem.output_gradient[static_cast<std::size_t>(t * problem.out + row)];
    one.before = rows_of(problem.before, problem.in, row, 1);
    EXPECT_TRUE(same_bits(by_kernel<TypeParam>(one), rows_of(whole, problem.in, row, 1), problem.in)) << row;
  }
}

}  // namespace
}  // namespace bsbr::testing
