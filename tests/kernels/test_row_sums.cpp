// Gradients that are sums over the rows of a leaf, of biases and norms: against plain loops and central differences.
#include "kernels/row_sums.hpp"

#include <gtest/gtest.h>

#include "bsbr/error.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::RowSumBuffers;
constexpr std::int64_t block = kernels::tuning::summed_rows;

template <class Real>
class BiasGradient : public ::testing::Test {};
TYPED_TEST_SUITE(BiasGradient, Reals, RealNames);

/// before [width] += Σ of the rows, in the order that is promised.
template <class Real>
std::vector<Real> plain_bias(const std::vector<double>& rows, std::vector<double> before) {
  std::vector<Real> result(before.begin(), before.end());
  const std::size_t width = result.size();
  for (std::size_t first = 0; first < rows.size(); first += block * width) {
    for (std::size_t i = 0; i < width; ++i) {
      Real sum = 0;
      for (std::size_t at = first + i; at < std::min(rows.size(), first + block * width); at += width)
        sum += static_cast<Real>(rows[at]);
      result[i] += sum;
    }
  }
  return result;
}

TYPED_TEST(BiasGradient, is_the_sum_of_the_rows_in_the_promised_order_bit_by_bit) {
  for (const std::int64_t width : {1, 5, 64, 131}) {
    for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{1}, block - 1, block, block + 1, 5 * block + 3}) {
      const auto gradient = random_matrix(rows, width, 41).values, before = random_matrix(1, width, 42).values;
      const auto result = to_device<TypeParam*>(before, width);
      kernels::add_bias_gradient(Execution(), RowSumBuffers<TypeParam>(rows, width),
                                 to_device<TypeParam**>(gradient, rows, width), result);
      Execution().fence();
      EXPECT_TRUE(same_bits(to_host(result), plain_bias<TypeParam>(gradient, before), 1))
          << "[" << rows << ", " << width << "]";
    }
  }
}

TYPED_TEST(BiasGradient, refuses_a_buffer_that_is_too_small) {
  const Array<TypeParam**> rows("test::rows", block + 1, 7);
  const Array<TypeParam*> result("test::result", 7);
  EXPECT_NO_THROW(kernels::add_bias_gradient(Execution(), RowSumBuffers<TypeParam>(block + 1, 7), rows, result));
  EXPECT_THROW(kernels::add_bias_gradient(Execution(), RowSumBuffers<TypeParam>(block, 7), rows, result), ShapeError);
  EXPECT_THROW(kernels::add_bias_gradient(Execution(), RowSumBuffers<TypeParam>(block + 1, 6), rows, result),
               ShapeError);
}

// ---- Layer norm -----------------------------------------------------------------------------------------------------

/// What is normed, and the gradient of the result; and what is there before, to be added to.
struct NormGradientProblem {
  std::int64_t rows, width;
  std::vector<double> x, dy, dx;         // [rows, width]
  std::vector<double> weight;            // [width]
  std::vector<double> d_weight, d_bias;  // [width]

  NormGradientProblem(std::int64_t count, std::int64_t columns, double size = 1, double mean = 0)
      : rows(count),
        width(columns),
        x(random_matrix(count, columns, 51, size).values),
        dy(in_float(random_matrix(count, columns, 52).values)),
        dx(in_float(random_matrix(count, columns, 53).values)),
        weight(in_float(random_matrix(1, columns, 54).values)),
        d_weight(in_float(random_matrix(1, columns, 55).values)),
        d_bias(in_float(random_matrix(1, columns, 56).values)) {
    for (double& element : x) element += mean;
    x = in_float(x);
  }
};

/// dx, then d_weight, then d_bias.
template <class Real>
std::vector<Real> by_kernel(const NormGradientProblem& of) {
  const auto dx = to_device<Real**>(of.dx, of.rows, of.width);
  const auto d_weight = to_device<Real*>(of.d_weight, of.width), d_bias = to_device<Real*>(of.d_bias, of.width);
  kernels::add_norm_gradients(Execution(), RowSumBuffers<Real>(of.rows, 2 * of.width),
                              to_device<Real**>(of.x, of.rows, of.width), to_device<Real*>(of.weight, of.width),
                              to_device<Real**>(of.dy, of.rows, of.width), dx, d_weight, d_bias);
  Execution().fence();
  auto all = to_host(dx);
  for (const auto& more : {to_host(d_weight), to_host(d_bias)}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// The same by plain loops.
template <class Real>
std::vector<Real> plain_loops(const NormGradientProblem& of) {
  std::vector<Real> dx(of.dx.begin(), of.dx.end()), d_weight(of.d_weight.begin(), of.d_weight.end()),
      d_bias(of.d_bias.begin(), of.d_bias.end());
  const auto n = static_cast<Real>(of.width);
  const auto width = static_cast<std::size_t>(of.width);
  for (std::size_t first = 0; first < of.x.size(); first += width) {
    Real mean = 0, variance = 0, mean_g = 0, mean_gx = 0;
    for (std::size_t i = 0; i < width; ++i) mean += static_cast<Real>(of.x[first + i]) / n;
    const auto centred = [&](std::size_t i) { return static_cast<Real>(of.x[first + i]) - mean; };
    for (std::size_t i = 0; i < width; ++i) variance += centred(i) * centred(i) / n;
    const Real deviation = std::sqrt(variance + Real(1e-5));
    const auto dy = [&](std::size_t i) { return static_cast<Real>(of.dy[first + i]); };
    const auto g = [&](std::size_t i) { return dy(i) * static_cast<Real>(of.weight[i]); };
    for (std::size_t i = 0; i < width; ++i) {
      mean_g += g(i) / n;
      mean_gx += g(i) * (centred(i) / deviation) / n;
    }
    for (std::size_t i = 0; i < width; ++i) {
      dx[first + i] += (g(i) - mean_g - centred(i) / deviation * mean_gx) / deviation;
      d_weight[i] += dy(i) * (centred(i) / deviation);
      d_bias[i] += dy(i);
    }
  }
  for (const auto& more : {d_weight, d_bias}) dx.insert(dx.end(), more.begin(), more.end());
  return dx;
}

template <class Real>
class NormGradient : public ::testing::Test {
 protected:
  void expect_right(const NormGradientProblem& problem) {
    const auto exact = plain_loops<double>(problem);
    const std::vector<std::int64_t> shape{static_cast<std::int64_t>(exact.size())};
    EXPECT_TRUE(
        all_close({by_kernel<Real>(problem), shape}, {exact, shape}, 10 * bound(exact, plain_loops<Real>(problem))))
        << "[" << problem.rows << ", " << problem.width << "]";
  }
};
TYPED_TEST_SUITE(NormGradient, Reals, RealNames);

TYPED_TEST(NormGradient, is_that_of_plain_loops) {
  for (const std::int64_t width : {1, 2, 3, 16, 33, 75, 128, 255}) {
    for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{1}, block, 2 * block + 3})
      this->expect_right(NormGradientProblem(rows, width));
  }
}

TYPED_TEST(NormGradient, counts_1e_minus_5_in_the_variance_and_takes_the_mean_away) {
  for (const double size : {1e-3, 3e-3, 1e-2}) this->expect_right(NormGradientProblem(5, 33, size));
  for (const double mean : {-3.0, 30.0}) this->expect_right(NormGradientProblem(5, 33, 1, mean));
}

/// Σ dy · norm(x) of the rows, by the forward's kernel.
double norm_loss(const NormGradientProblem& of, const std::vector<double>& bias) {
  const auto width = of.width;
  const auto x = to_device<double***>(of.x, 1, of.rows, width);
  const auto weight = to_device<double*>(of.weight, width), shift = to_device<double*>(bias, width);
  kernels::for_each_row(
      Execution(), "test::layer_norm", x, KOKKOS_LAMBDA(const kernels::Team& team, double* row) {
        kernels::layer_norm(team, static_cast<int>(width), row, weight.data(), shift.data(), row);
      });
  Execution().fence();
  const auto y = to_host(x);
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += of.dy[i] * y[i];
  return sum;
}

TEST(CentralDifferences, of_a_norm_are_its_gradient) {
  NormGradientProblem problem(3, 7);
  problem.dx.assign(problem.dx.size(), 0);
  problem.d_weight.assign(7, 0);
  problem.d_bias.assign(7, 0);
  std::vector<double> bias = random_matrix(1, 7, 57).values;
  std::vector<double> expected;
  for (auto* values : {&problem.x, &problem.weight, &bias}) {
    for (double& value : *values) {
      const double before = value, step = 1e-5;
      value = before + step;
      const double above = norm_loss(problem, bias);
      value = before - step;
      expected.push_back((above - norm_loss(problem, bias)) / (2 * step));
      value = before;
    }
  }
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(expected.size())};
  EXPECT_TRUE(all_close({by_kernel<double>(problem), shape}, {expected, shape}, 1e-8));
}

TYPED_TEST(NormGradient, does_not_depend_on_the_size_where_squares_overflow) {
  NormGradientProblem unit(2, 37, 1e3), large = unit;  // beside 1e3 the norm's 1e-5 is nothing
  for (auto* problem : {&unit, &large}) problem->dx.assign(problem->dx.size(), 0);
  const double size = std::numeric_limits<TypeParam>::max() / 1e10;
  for (double& element : large.x) element *= size;
  auto expected = by_kernel<TypeParam>(unit), actual = by_kernel<TypeParam>(large);
  for (std::size_t i = 0; i < unit.x.size(); ++i) {
    EXPECT_LE(std::abs(actual[i]), std::abs(expected[i]));  // times 1/size, which may be a denormal number: 0
    actual[i] = expected[i] = 0;
  }
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(expected.size())};
  EXPECT_TRUE(all_close({actual, shape}, {expected, shape}, 1e-5));
}

TYPED_TEST(NormGradient, of_a_row_that_is_not_finite_is_not_shown_as_one_that_is) {
  NormGradientProblem problem(2, 5);
  problem.x[1] = std::numeric_limits<double>::infinity();
  const auto all = by_kernel<TypeParam>(problem);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(std::isnan(all[i]));
    EXPECT_FALSE(std::isnan(all[5 + i])) << "the other row";
    EXPECT_TRUE(std::isnan(all[10 + i])) << "its share of the weight's gradient";
  }
}

// ---- GELU -----------------------------------------------------------------------------------------------------------

template <class Real>
std::vector<Real> gelu_gradient(const std::vector<double>& x, const std::vector<double>& bias,
                                const std::vector<double>& dy) {
  const auto width = static_cast<std::int64_t>(bias.size()), rows = static_cast<std::int64_t>(x.size()) / width;
  const auto inner = to_device<Real***>(x, 1, rows, width), gradient = to_device<Real***>(dy, 1, rows, width);
  const auto shift = to_device<Real*>(bias, width);
  const Real* begin = gradient.data();
  kernels::for_each_row(
      Execution(), "test::gelu_gradient", gradient, KOKKOS_LAMBDA(const kernels::Team& team, Real* row) {
        kernels::gelu_gradient_with_bias(team, static_cast<int>(width), inner.data() + (row - begin), shift.data(), row,
                                         row);
      });
  Execution().fence();
  return to_host(gradient);
}

template <class Real>
class GeluGradient : public ::testing::Test {};
TYPED_TEST_SUITE(GeluGradient, Reals, RealNames);

TYPED_TEST(GeluGradient, of_a_row_is_that_of_its_formula_where_the_bias_puts_it) {
  const std::int64_t rows = 3, width = 37;
  const auto x = in_float(random_matrix(rows, width, 61, 2).values),
             bias = in_float(random_matrix(1, width, 62).values), dy = in_float(random_matrix(rows, width, 63).values);
  std::vector<double> expected;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double z = x[i] + bias[i % bias.size()];
    const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::acos(-1.0));
    expected.push_back(dy[i] * (0.5 * std::erfc(-z / std::sqrt(2.0)) + z * density));
  }
  const std::vector<std::int64_t> shape{rows, width};
  EXPECT_TRUE(all_close({gelu_gradient<TypeParam>(x, bias, dy), shape}, {expected, shape},
                        sizeof(TypeParam) == 8 ? 1e-14 : 3e-6));
}

}  // namespace
}  // namespace bsbr::testing
