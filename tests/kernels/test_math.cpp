// exp, GELU, sigmoid and elu of the kernels against the exact formulas, over dense samples.
#include "kernels/math.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numbers>

#include "support/device_arrays.hpp"

namespace bsbr::testing {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Values of a function of many numbers, in a loop that may be vectorised, as kernels have it.
template <class Real, class Function>
std::vector<Real> values_of(const std::vector<Real>& x, const Function& function) {
  const auto values = to_device<Real*>(x, x.size());
  Kokkos::parallel_for(
      "test::values", Kokkos::RangePolicy<Execution>(0, x.size()),
      KOKKOS_LAMBDA(const std::size_t i) { values(i) = function(values(i)); });
  return to_host(values);
}

template <class Real>
std::vector<Real> exp_of(const std::vector<Real>& x) {
  return values_of(
      x, KOKKOS_LAMBDA(const Real z) { return kernels::exp_nonpositive(z); });
}

template <class Real>
std::vector<Real> exp2_of(const std::vector<Real>& x) {
  return values_of(
      x, KOKKOS_LAMBDA(const Real z) { return kernels::exp2_nonpositive(z); });
}

template <class Real>
std::vector<Real> gelu_of(const std::vector<Real>& z) {
  return values_of(
      z, KOKKOS_LAMBDA(const Real one) { return kernels::gelu(one); });
}

template <class Real>
std::vector<Real> gelu_derivative_of(const std::vector<Real>& z) {
  return values_of(
      z, KOKKOS_LAMBDA(const Real one) { return kernels::gelu_derivative(one); });
}

template <class Real>
std::vector<Real> sigmoid_of(const std::vector<Real>& z) {
  return values_of(
      z, KOKKOS_LAMBDA(const Real one) { return kernels::sigmoid(one); });
}

template <class Real>
std::vector<Real> elu_plus_one_of(const std::vector<Real>& z) {
  return values_of(
      z, KOKKOS_LAMBDA(const Real one) { return kernels::elu_plus_one(one); });
}

/// Every 499th float of (−87, 0], and the neighbours of the places where exp goes from one power of two to the next.
std::vector<float> exp_arguments() {
  std::vector<float> x{0.f, -0.f, -std::numeric_limits<float>::min(), -std::numeric_limits<float>::denorm_min()};
  for (std::uint32_t bits = 0; bits < std::bit_cast<std::uint32_t>(87.f); bits += 499)
    x.push_back(-std::bit_cast<float>(bits));
  for (int n = 0; n < 250; ++n) {
    float near = static_cast<float>(-0.5 * n * std::numbers::ln2) + 4e-6f;
    for (int step = 0; step < 40; ++step) {
      if (near <= 0 && near > -87) x.push_back(near);
      near = std::nextafter(near, -infinity);
    }
  }
  return x;
}

/// Units in the last place of a float between `actual` and `exact`, a normal number.
double ulps(float actual, double exact) { return std::abs(actual - exact) / std::ldexp(1.0, std::ilogb(exact) - 23); }

TEST(ExpNonpositive, float_is_within_two_units_in_the_last_place) {
  const auto x = exp_arguments();
  ASSERT_GT(x.size(), 2000000u);
  const auto y = exp_of(x);
  double worst = 0;
  float place = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(y[i], std::exp(static_cast<double>(x[i])));
    if (error <= worst) continue;
    worst = error;
    place = x[i];
  }
  EXPECT_LE(worst, 2) << "exp(" << place << ")";
  RecordProperty("ulps", std::to_string(worst));
}

TEST(ExpNonpositive, is_exactly_one_at_zero) {
  EXPECT_EQ(exp_of<float>({0.f, -0.f}), (std::vector<float>{1, 1}));
  EXPECT_EQ(exp_of<double>({0., -0.}), (std::vector<double>{1, 1}));
}

TEST(ExpNonpositive, is_exactly_zero_far_below) {
  const std::vector<float> below{std::nextafter(-87.f, -infinity),     -87.5f,   -88, -100, -126, -128, -1e3f, -1e10f,
                                 std::numeric_limits<float>::lowest(), -infinity};
  EXPECT_EQ(exp_of(below), std::vector<float>(below.size(), 0.f));
  EXPECT_EQ(exp_of<double>({-1e3, std::numeric_limits<double>::lowest(), -std::numeric_limits<double>::infinity()}),
            std::vector<double>(3, 0.));
}

TEST(ExpNonpositive, of_what_is_not_a_number_is_none) {
  EXPECT_TRUE(std::isnan(exp_of<float>({std::nanf("")})[0]));
  EXPECT_TRUE(std::isnan(exp_of<double>({std::nan("")})[0]));
}

TEST(ExpNonpositive, float_is_never_denormal) {
  auto x = exp_arguments();
  for (float near = -86.9f; near > -105; near = std::nextafter(near, -infinity)) x.push_back(near);
  std::size_t denormal = 0;
  for (const float y : exp_of(x)) denormal += y != 0 && !std::isnormal(y) ? 1 : 0;
  EXPECT_EQ(denormal, 0u);
}

/// Every 499th float of [−126, 0], and the neighbours of the places where 2^x goes from one polynomial to the next.
std::vector<float> exp2_arguments() {
  std::vector<float> x{0.f, -0.f, -std::numeric_limits<float>::min(), -std::numeric_limits<float>::denorm_min(),
                       -126.f};
  for (std::uint32_t bits = 0; bits < std::bit_cast<std::uint32_t>(126.f); bits += 499)
    x.push_back(-std::bit_cast<float>(bits));
  for (int n = 1; n < 252; ++n) {
    float near = -0.5f * static_cast<float>(n);
    for (int step = 0; step < 20; ++step) near = std::nextafter(near, 0.f);
    for (int step = 0; step < 40; ++step) {
      if (near >= -126) x.push_back(near);
      near = std::nextafter(near, -infinity);
    }
  }
  return x;
}

TEST(Exp2Nonpositive, float_is_within_three_units_in_the_last_place) {
  const auto x = exp2_arguments();
  ASSERT_GT(x.size(), 2000000u);
  const auto y = exp2_of(x);
  double worst = 0;
  float place = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(y[i], std::exp2(static_cast<double>(x[i])));
    if (error <= worst) continue;
    worst = error;
    place = x[i];
  }
  EXPECT_LE(worst, 3) << "2^" << place;
  RecordProperty("ulps", std::to_string(worst));
}

TEST(Exp2Nonpositive, is_exact_at_whole_numbers) {
  std::vector<float> x, powers;
  for (int n = 0; n <= 126; ++n) {
    x.push_back(static_cast<float>(-n));
    powers.push_back(std::ldexp(1.f, -n));
  }
  EXPECT_EQ(exp2_of(x), powers);
  EXPECT_EQ(exp2_of<float>({-0.f}), std::vector<float>{1});
  EXPECT_EQ(exp2_of<double>({0., -0., -3.}), (std::vector<double>{1, 1, 0.125}));
}

TEST(Exp2Nonpositive, is_exactly_zero_far_below) {
  const std::vector<float> below{std::nextafter(-126.f, -infinity),    -126.5f,  -127, -128, -150, -1e3f, -1e10f,
                                 std::numeric_limits<float>::lowest(), -infinity};
  EXPECT_EQ(exp2_of(below), std::vector<float>(below.size(), 0.f));
  EXPECT_EQ(exp2_of<double>({-2e3, -std::numeric_limits<double>::infinity()}), std::vector<double>(2, 0.));
}

TEST(Exp2Nonpositive, of_what_is_not_a_number_is_none) {
  for (const std::uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7fc00001u, 0x7fffffffu}) {
    EXPECT_TRUE(std::isnan(exp2_of<float>({std::bit_cast<float>(bits)})[0])) << bits;
  }
  EXPECT_TRUE(std::isnan(exp2_of<double>({std::nan("")})[0]));
}

/// z·Φ(z); with erfc, so that it is right to the last digit for z far below 0 too.
double exact_gelu(double z) {
  return static_cast<double>(0.5L * static_cast<long double>(z) *
                             std::erfc(-static_cast<long double>(z) / std::numbers::sqrt2_v<long double>));
}

double tanh_gelu(double z) {
  return 0.5 * z * (1 + std::tanh(std::sqrt(2 * std::numbers::inv_pi) * (z + 0.044715 * z * z * z)));
}

/// [−20, 20] in steps of 1/16384, and numbers near 0 on a scale of powers of two.
std::vector<float> gelu_arguments() {
  std::vector<float> z;
  for (int i = -20 * 16384; i <= 20 * 16384; ++i) z.push_back(static_cast<float>(i) / 16384.f);
  for (int power = -149; power < 5; ++power) {
    for (const double mantissa : {1.0, 1.171875, 1.34567, 1.6180339, 1.99999}) {
      for (const double sign : {-1, 1}) z.push_back(static_cast<float>(sign * std::ldexp(mantissa, power)));
    }
  }
  return z;
}

constexpr double gelu_bound = 3e-7;  // of |z|, as kernels/math.hpp states it

/// Largest |f(z) − GELU(z)| / |z|.
template <class Function>
double worst_gelu_error(const std::vector<float>& z, Function&& f) {
  double worst = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double exact = exact_gelu(z[i]), actual = f(i);
    if (std::abs(z[i]) < std::numeric_limits<float>::min()) {
      EXPECT_LE(std::abs(actual - exact), 4 * std::numeric_limits<float>::denorm_min()) << z[i];
    } else {
      worst = std::max(worst, std::abs(actual - exact) / std::abs(static_cast<double>(z[i])));
    }
  }
  return worst;
}

TEST(Gelu, float_is_the_exact_form_within_its_bound) {
  const auto z = gelu_arguments();
  const auto y = gelu_of(z);
  const double worst = worst_gelu_error(z, [&](std::size_t i) { return static_cast<double>(y[i]); });
  EXPECT_LT(worst, gelu_bound);
  RecordProperty("error", std::to_string(worst * 1e7) + "e-7");
}

TEST(Gelu, double_is_the_exact_form_to_the_last_digits) {
  const auto z = gelu_arguments();
  const auto y = gelu_of(widen(z));
  EXPECT_LT(worst_gelu_error(z, [&](std::size_t i) { return y[i]; }), 4e-16);
}

TEST(Gelu, bound_tells_the_exact_form_from_the_tanh_form) {
  const auto z = gelu_arguments();
  EXPECT_GT(worst_gelu_error(z, [&](std::size_t i) { return tanh_gelu(z[i]); }), 100 * gelu_bound);
}

TEST(Gelu, is_the_identity_or_zero_in_the_tails) {
  for (const float z : {20.5f, 37.f, 100.f, 1e3f, 1e10f, 1e18f, 2e19f, 1e30f, std::numeric_limits<float>::max()}) {
    EXPECT_EQ(gelu_of<float>({z, -z}), (std::vector<float>{z, -0.f})) << z;
    const double wide = z;
    EXPECT_EQ(gelu_of<double>({wide, -wide}), (std::vector<double>{wide, -0.})) << z;
  }
  EXPECT_EQ(gelu_of<float>({0.f}), std::vector<float>{0});
}

/// Φ(z) + z·φ(z)
double exact_gelu_derivative(double z) {
  return 0.5 * std::erfc(-z / std::numbers::sqrt2) +
         z * std::exp(-0.5 * z * z) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
}

template <class Real>
double worst_gelu_derivative_error(const std::vector<Real>& z) {
  const auto y = gelu_derivative_of(z);
  double worst = 0;
  for (std::size_t i = 0; i < z.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - exact_gelu_derivative(static_cast<double>(z[i]))));
  return worst;
}

TEST(GeluDerivative, is_the_exact_form_within_its_bound) {
  EXPECT_LT(worst_gelu_derivative_error(gelu_arguments()), 4e-7);
  EXPECT_LT(worst_gelu_derivative_error(widen(gelu_arguments())), 1e-15);
}

TEST(GeluDerivative, is_that_of_central_differences) {
  for (double z = -8; z < 8; z += 0.0625) {
    constexpr double step = 1e-5;
    const auto y = gelu_of<double>({z + step, z - step});
    EXPECT_NEAR(gelu_derivative_of<double>({z})[0], (y[0] - y[1]) / (2 * step), 1e-9) << z;
  }
}

TEST(GeluDerivative, is_one_or_zero_in_the_tails) {
  for (const float z : {20.5f, 1e3f, 1e18f, std::numeric_limits<float>::max()}) {
    EXPECT_EQ(gelu_derivative_of<float>({z, -z}), (std::vector<float>{1, 0})) << z;
    const double wide = 4 * static_cast<double>(z);
    EXPECT_EQ(gelu_derivative_of<double>({wide, -wide}), (std::vector<double>{1, 0})) << z;
  }
  EXPECT_TRUE(std::isnan(gelu_derivative_of<float>({std::nanf("")})[0]));
}

// ---- Sigmoid and elu ------------------------------------------------------------------------------------------------

/// Both signs of the arguments of exp and of what lies beyond; denormal numbers among them.
std::vector<float> both_signs() {
  std::vector<float> z = exp_arguments();
  for (const float far :
       {-87.f, std::nextafter(-87.f, 0.f), std::nextafter(-87.f, -infinity), -88.f, -104.f, -1e3f, -1e30f})
    z.push_back(far);
  const std::size_t count = z.size();
  for (std::size_t i = 0; i < count; ++i) z.push_back(-z[i]);
  return z;
}

/// Largest error in units in the last place where the exact value is above `least`; below it |actual − exact| must be
/// less than `least`.
template <class Exact>
double worst_ulps(const std::vector<float>& z, const std::vector<float>& y, double least, const Exact& exact) {
  double worst = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double right = exact(static_cast<double>(z[i]));
    if (right > least) {
      worst = std::max(worst, ulps(y[i], right));
    } else {
      EXPECT_LT(std::abs(static_cast<double>(y[i]) - right), least) << z[i];
    }
  }
  return worst;
}

double exact_sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
double exact_elu_plus_one(double z) { return z > 0 ? z + 1 : std::exp(z); }

TEST(Sigmoid, float_is_within_four_units_in_the_last_place) {
  const auto z = both_signs();
  ASSERT_GT(z.size(), 4000000u);
  const double worst = worst_ulps(z, sigmoid_of(z), 1e-37, exact_sigmoid);
  EXPECT_LE(worst, 4);
  RecordProperty("ulps", std::to_string(worst));
}

TEST(Sigmoid, double_is_exact_to_the_last_digits) {
  for (const double z : {-700.0, -87.0, -20.0, -1.0, -1e-8, 0.0, 1e-300, 1e-8, 0.5, 3.0, 36.0, 800.0}) {
    const double exact = exact_sigmoid(z);
    EXPECT_NEAR(sigmoid_of<double>({z})[0], exact, 1e-15 * exact) << z;
  }
}

/// 1 − σ(z) = σ(−z), σ between 0 and 1, growing.
TEST(Sigmoid, keeps_within_0_and_1_and_does_not_fall) {
  std::vector<float> z;
  for (int i = -100 * 128; i <= 100 * 128; ++i) z.push_back(static_cast<float>(i) / 128);
  const auto y = sigmoid_of(z);
  for (std::size_t i = 0; i < y.size(); ++i) {
    EXPECT_TRUE(y[i] >= 0 && y[i] <= 1) << z[i];
    if (i > 0) {
      EXPECT_GE(y[i], y[i - 1]) << z[i];
    }
    EXPECT_NEAR(y[i] + y[y.size() - 1 - i], 1, 2e-7) << z[i];
  }
}

TEST(Sigmoid, goes_to_its_ends_and_keeps_what_is_not_a_number) {
  EXPECT_EQ(sigmoid_of<float>({-infinity, -1e30f, 0.f, -0.f, 1e30f, infinity}),
            (std::vector<float>{0, 0, 0.5, 0.5, 1, 1}));
  EXPECT_EQ(sigmoid_of<double>({-HUGE_VAL, 0., HUGE_VAL}), (std::vector<double>{0, 0.5, 1}));
  EXPECT_TRUE(std::isnan(sigmoid_of<float>({std::nanf("")})[0]));
  EXPECT_TRUE(std::isnan(sigmoid_of<double>({std::nan("")})[0]));
}

TEST(EluPlusOne, float_is_within_two_units_in_the_last_place) {
  const auto z = both_signs();
  const double worst = worst_ulps(z, elu_plus_one_of(z), 2e-38, exact_elu_plus_one);
  EXPECT_LE(worst, 2);
  RecordProperty("ulps", std::to_string(worst));
}

TEST(EluPlusOne, above_zero_is_the_next_number_to_the_sum) {
  const std::vector<float> z{
      std::numeric_limits<float>::denorm_min(), 1e-30f, 1e-8f, 6e-8f, 0.3f, 1.f, 77.7f, 1e7f, 1e20f,
      std::numeric_limits<float>::max()};
  const auto y = elu_plus_one_of(z);
  for (std::size_t i = 0; i < z.size(); ++i) EXPECT_EQ(y[i], z[i] + 1.f) << z[i];
}

TEST(EluPlusOne, goes_to_its_ends_and_keeps_what_is_not_a_number) {
  EXPECT_EQ(elu_plus_one_of<float>({-infinity, -1e30f, std::nextafter(-87.f, -infinity), 0.f, -0.f, infinity}),
            (std::vector<float>{0, 0, 0, 1, 1, infinity}));
  EXPECT_EQ(elu_plus_one_of<double>({-HUGE_VAL, 0., HUGE_VAL}), (std::vector<double>{0, 1, HUGE_VAL}));
  EXPECT_TRUE(std::isnan(elu_plus_one_of<float>({std::nanf("")})[0]));
  EXPECT_TRUE(std::isnan(elu_plus_one_of<double>({std::nan("")})[0]));
}

TEST(EluPlusOne, is_never_denormal_and_never_negative) {
  const auto z = both_signs();
  const auto y = elu_plus_one_of(z);
  std::size_t bad = 0;
  for (std::size_t i = 0; i < z.size(); ++i) bad += y[i] < 0 || (y[i] != 0 && !std::isnormal(y[i])) ? 1 : 0;
  EXPECT_EQ(bad, 0u);
}

}  // namespace
}  // namespace bsbr::testing
