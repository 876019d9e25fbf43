// Functions of one row by themselves, against plain loops. Biases are tested where they are used, in
// tests/golden_model.
#include "kernels/rows.hpp"

#include <gtest/gtest.h>

#include "kernels/head_norm.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

/// The rows [rows, width] after normalise().
template <class Real>
std::vector<Real> normalised(const std::vector<double>& numbers, std::int64_t width) {
  const std::int64_t rows = static_cast<std::int64_t>(numbers.size()) / width;
  const auto array = to_device<Real***>(numbers, 1, rows, width);
  const auto normalise = KOKKOS_LAMBDA(const kernels::Team& team, Real* row) {
    kernels::normalise<Real>(team, static_cast<int>(width), row);
  };
  kernels::for_each_row(Execution(), "test::normalise", array, normalise);
  Execution().fence();
  return to_host(array);
}

template <class Real>
class Normalise : public ::testing::Test {
 protected:
  static constexpr double epsilon = std::numeric_limits<Real>::epsilon();

  /// Each row of `numbers` against itself divided by its length, but not by less than 1e-12.
  void expect_right(const std::vector<double>& numbers, std::int64_t width) {
    const auto actual = normalised<Real>(numbers, width);
    for (std::size_t begin = 0; begin < numbers.size(); begin += static_cast<std::size_t>(width)) {
      long double square = 0;
      for (std::size_t i = begin; i < begin + static_cast<std::size_t>(width); ++i) {
        const long double held = static_cast<Real>(numbers[i]);
        square += held * held;
      }
      const long double length = std::max(std::sqrt(square), 1e-12L);
      for (std::size_t i = begin; i < begin + static_cast<std::size_t>(width); ++i) {
        const auto exact = static_cast<double>(static_cast<long double>(static_cast<Real>(numbers[i])) / length);
        EXPECT_NEAR(actual[i], exact, 4 * epsilon * std::abs(exact)) << "number " << i << " of rows of " << width;
      }
    }
  }
};
TYPED_TEST_SUITE(Normalise, Reals, RealNames);

TYPED_TEST(Normalise, divides_by_the_length) {
  for (const std::int64_t width : {1, 2, 5, 12, 15, 16, 17, 64, 80, 128})
    this->expect_right(random_matrix(9, width, 1).values, width);
}

TYPED_TEST(Normalise, gives_rows_of_length_one_however_small_and_large_they_are) {
  for (const double size : {1e-11, 1e-6, 1.0, 1e6, 1e18, 1e30})
    this->expect_right(random_matrix(5, 12, 2, size).values, 12);
}

TYPED_TEST(Normalise, divides_by_no_less_than_1e_minus_12) {
  this->expect_right(random_matrix(5, 12, 3, 1e-14).values, 12);
  EXPECT_NEAR(normalised<TypeParam>({3e-14, 0, 4e-14}, 3)[2], 0.04, 1e-7);
}

TYPED_TEST(Normalise, leaves_rows_of_zeros) {
  EXPECT_EQ(normalised<TypeParam>(std::vector<double>(24, 0), 12), std::vector<TypeParam>(24, 0));
}

TYPED_TEST(Normalise, gives_rows_of_length_one_whose_squares_overflow) {
  const double largest = std::numeric_limits<TypeParam>::max();
  this->expect_right(random_matrix(5, 12, 2, largest / 1e8).values, 12);
  this->expect_right({largest, largest / 2, 0, -largest}, 4);
}

TYPED_TEST(Normalise, of_a_row_that_is_not_finite_is_not_shown_as_one_that_is) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_TRUE(std::isnan(normalised<TypeParam>({1, bad, 1}, 3)[1])) << bad;
  }
}

// ---- Division by the root mean square -------------------------------------------------------------------------------

/// y of the rows [rows, width] of x, and dx of dy, by the kernels.
template <class Real>
std::pair<std::vector<Real>, std::vector<Real>> kernel_rms_norm(const std::vector<double>& x,
                                                                const std::vector<double>& dy, std::int64_t width) {
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / width;
  const std::int64_t heads = rows % 3 == 0 ? 3 : 1;  // rows of one token
  const auto given = to_device<Real***>(x, 1, rows / heads, heads * width),
             gradient = to_device<Real***>(dy, 1, rows / heads, heads * width);
  const Array<Real***> y("test::y", 1, rows / heads, heads * width);
  kernels::norm_heads<Real>(Execution(), "test::norm", heads, given, y);
  kernels::norm_heads_gradient<Real>(Execution(), "test::norm_gradient", heads, given, gradient, gradient);
  Execution().fence();
  return {to_host(y), to_host(gradient)};
}

template <class Real>
class RmsNorm : public ::testing::Test {
 protected:
  /// y = x / s and dx = (dy − y mean(dy y)) / s, s = √(mean(x²) + 1e-5), of numbers that float holds.
  void expect_right(std::int64_t width, double size) {
    const auto x = in_float(random_matrix(6, width, 31, size).values),
               dy = in_float(random_matrix(6, width, 32).values);
    const auto [y, dx] = kernel_rms_norm<Real>(x, dy, width);
    const double tolerance = 30 * static_cast<double>(std::numeric_limits<Real>::epsilon());
    for (std::size_t begin = 0; begin < x.size(); begin += static_cast<std::size_t>(width)) {
      const auto end = begin + static_cast<std::size_t>(width);
      long double square = 0, product = 0;
      for (std::size_t i = begin; i < end; ++i) square += static_cast<long double>(x[i]) * x[i] / width;
      const long double root = std::sqrt(square + 1e-5L);
      for (std::size_t i = begin; i < end; ++i) product += dy[i] * (x[i] / root) / width;
      for (std::size_t i = begin; i < end; ++i) {
        const long double exact = x[i] / root, exact_gradient = (dy[i] - exact * product) / root;
        EXPECT_NEAR(y[i], static_cast<double>(exact), tolerance * 4) << width << " columns of size " << size;
        EXPECT_NEAR(dx[i] * static_cast<Real>(root), static_cast<double>(exact_gradient * root), tolerance * 8)
            << width << " columns of size " << size;
      }
    }
  }
};
TYPED_TEST_SUITE(RmsNorm, Reals, RealNames);

TYPED_TEST(RmsNorm, and_its_gradient_are_those_of_plain_loops) {
  for (const std::int64_t width : {1, 2, 7, 16, 33, 64, 80}) {
    for (const double size : {1e-3, 1.0, 1e6}) this->expect_right(width, size);
  }
}

TYPED_TEST(RmsNorm, of_zeros_is_zero_and_its_gradient_finite) {
  const auto [y, dx] = kernel_rms_norm<TypeParam>(std::vector<double>(12, 0), std::vector<double>(12, 1), 4);
  EXPECT_EQ(y, std::vector<TypeParam>(12, 0));
  for (const TypeParam element : dx) EXPECT_NEAR(element, 1 / std::sqrt(1e-5), 1e-3);
}

TYPED_TEST(RmsNorm, of_a_row_whose_squares_overflow_is_of_size_one) {
  const double largest = std::numeric_limits<TypeParam>::max();
  const auto [y, dx] = kernel_rms_norm<TypeParam>({largest / 2, -largest / 2}, {1, 1}, 2);
  EXPECT_NEAR(y[0], 1, 1e-6);
  EXPECT_NEAR(y[1], -1, 1e-6);
  EXPECT_TRUE(std::isfinite(dx[0]));
}

TYPED_TEST(RmsNorm, of_a_row_that_is_not_finite_is_nan_and_of_others_is_not) {
  for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    const auto y = kernel_rms_norm<TypeParam>({1, bad, 1, 3, 4, 5}, std::vector<double>(6, 1), 3).first;
    for (const int i : {0, 1, 2}) EXPECT_TRUE(std::isnan(y[static_cast<std::size_t>(i)])) << bad;
    for (const int i : {3, 4, 5}) EXPECT_TRUE(std::isfinite(y[static_cast<std::size_t>(i)])) << bad;
  }
}

// ---- Layer norm -----------------------------------------------------------------------------------------------------

/// The rows [rows, width] of `x`, their norms' weight and bias [width]; elements that float holds.
struct NormProblem {
  std::int64_t width;
  std::vector<double> x, weight, bias;

  NormProblem(std::int64_t rows, std::int64_t columns, double size, double mean = 0)
      : width(columns),
        x(random_matrix(rows, columns, 21, size).values),
        weight(in_float(random_matrix(1, columns, 22).values)),
        bias(in_float(random_matrix(1, columns, 23).values)) {
    for (double& element : x) element += mean;
    x = in_float(x);
  }
};

/// y = (x − mean) / √(variance + 1e-5) · weight + bias, with the biased variance.
template <class Real>
std::vector<Real> plain_norm(const NormProblem& problem) {
  std::vector<Real> y;
  const auto n = static_cast<Real>(problem.width);
  for (auto row = problem.x.begin(); row != problem.x.end(); row += problem.width) {
    Real mean = 0, variance = 0;
    for (auto x = row; x != row + problem.width; ++x) mean += static_cast<Real>(*x) / n;
    for (auto x = row; x != row + problem.width; ++x)
      variance += (static_cast<Real>(*x) - mean) * (static_cast<Real>(*x) - mean) / n;
    for (std::size_t i = 0; i < problem.weight.size(); ++i) {
      const Real centred = static_cast<Real>(row[static_cast<std::ptrdiff_t>(i)]) - mean;
      y.push_back(centred / std::sqrt(variance + Real(1e-5)) * static_cast<Real>(problem.weight[i]) +
                  static_cast<Real>(problem.bias[i]));
    }
  }
  return y;
}

template <class Real>
std::vector<Real> kernel_norm(const NormProblem& problem) {
  const auto width = problem.width;
  const auto x = to_device<Real***>(problem.x, 1, static_cast<std::int64_t>(problem.x.size()) / width, width);
  const Array<const Real*> weight = to_device<Real*>(problem.weight, width),
                           bias = to_device<Real*>(problem.bias, width);
  const auto norm = KOKKOS_LAMBDA(const kernels::Team& team, Real* row) {
    kernels::layer_norm(team, static_cast<int>(width), row, weight.data(), bias.data(), row);
  };
  kernels::for_each_row(Execution(), "test::layer_norm", x, norm);
  Execution().fence();
  return to_host(x);
}

template <class Real>
class LayerNorm : public ::testing::Test {
 protected:
  void expect_right(const NormProblem& problem) {
    const auto exact = plain_norm<double>(problem);
    const std::vector<std::int64_t> shape{static_cast<std::int64_t>(problem.x.size()) / problem.width, problem.width};
    // In float the rows may lie as far from the exact ones as plain loops in float do, twice, and a few roundings.
    const double rounding = 8 * std::numeric_limits<Real>::epsilon() * std::max(1.0, largest_magnitude(exact));
    const double tolerance = sizeof(Real) == 8
                                 ? 1e-13 * std::max(1.0, largest_magnitude(exact))
                                 : 2 * largest_difference(widen(plain_norm<Real>(problem)), exact) + rounding;
    EXPECT_TRUE(all_close({kernel_norm<Real>(problem), shape}, {exact, shape}, tolerance)) << "width " << problem.width;
  }
};
TYPED_TEST_SUITE(LayerNorm, Reals, RealNames);

TYPED_TEST(LayerNorm, is_that_of_plain_loops) {
  for (const std::int64_t width : {1, 2, 3, 7, 15, 16, 17, 31, 33, 75, 128, 255})
    this->expect_right(NormProblem(5, width, 1));
}

TYPED_TEST(LayerNorm, adds_1e_minus_5_to_the_variance) {
  for (const double size : {1e-4, 1e-3, 3e-3, 1e-2, 0.1}) {  // variances from far below 1e-5 to far above
    for (const std::int64_t width : {2, 7, 33, 128}) this->expect_right(NormProblem(5, width, size));
  }
}

TYPED_TEST(LayerNorm, takes_the_mean_away_first) {
  for (const double mean : {-3.0, 100.0}) {
    for (const std::int64_t width : {5, 16, 75}) this->expect_right(NormProblem(3, width, 1, mean));
  }
}

TYPED_TEST(LayerNorm, of_equal_elements_is_the_bias) {
  const NormProblem problem(4, 33, 0, 2.5);
  const auto y = kernel_norm<TypeParam>(problem);
  for (std::size_t i = 0; i < y.size(); ++i)
    EXPECT_EQ(y[i], static_cast<TypeParam>(problem.bias[i % problem.bias.size()]));
}

/// One row, normed with weights of 2 and biases of 1.
template <class Real>
std::vector<Real> norm_of_row(const std::vector<double>& row) {
  NormProblem problem(1, static_cast<std::int64_t>(row.size()), 1);
  problem.x = row;
  problem.weight.assign(row.size(), 2);
  problem.bias.assign(row.size(), 1);
  return kernel_norm<Real>(problem);
}

TYPED_TEST(LayerNorm, does_not_depend_on_the_size_where_squares_overflow) {
  const auto numbers = random_matrix(1, 37, 4).values;
  auto unit = numbers;
  for (double& number : unit) number *= 1e6;  // beside which the norm's 1e-5 is nothing
  const auto expected = norm_of_row<TypeParam>(unit);
  const double largest = std::numeric_limits<TypeParam>::max();
  for (const double size : {std::sqrt(largest) / 2, std::sqrt(largest) * 2, largest / 100}) {
    auto large = numbers;
    for (double& number : large) number *= size;
    EXPECT_TRUE(all_close({norm_of_row<TypeParam>(large), {37}}, {expected, {37}}, 1e-5)) << size;
  }
}

TYPED_TEST(LayerNorm, of_a_row_that_is_not_finite_is_one_and_the_same_nan_throughout) {
  const TypeParam nan = std::numeric_limits<TypeParam>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity(), largest = std::numeric_limits<TypeParam>::max();
  const std::vector<std::vector<double>> rows{{1, infinity, 2, 3},
                                              {-infinity, 1, 2, 3},
                                              {1, 2, 3, -nan},
                                              {infinity, 0, 0, -infinity},
                                              {largest, largest, largest, largest}};  // their sum overflows
  for (const auto& row : rows) {
    EXPECT_TRUE(same_bits(norm_of_row<TypeParam>(row), std::vector<TypeParam>(4, nan), 4))
        << ::testing::PrintToString(row);
  }
}

}  // namespace
}  // namespace bsbr::testing
