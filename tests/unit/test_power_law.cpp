// Fitting y = c·xᵃ: known laws, known noise, and what cannot be fitted.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "measure/power_law.hpp"

namespace bsbr::apps {
namespace {

std::vector<double> law(const std::vector<double>& x, double factor, double exponent) {
  std::vector<double> y;
  for (const double value : x) y.push_back(factor * std::pow(value, exponent));
  return y;
}

const std::vector<double> lengths{256, 512, 1024, 2048, 4096};

TEST(PowerLaw, an_exact_law_is_found) {
  for (const double exponent : {0.5, 1.0, 2.0, -1.5}) {
    const auto found = fit_power_law(lengths, law(lengths, 3e-5, exponent));
    ASSERT_TRUE(found);
    EXPECT_NEAR(found->exponent, exponent, 1e-12);
    EXPECT_NEAR(found->r_squared, 1, 1e-12);
  }
}

TEST(PowerLaw, the_factor_does_not_matter) {
  const std::vector<double> y{1, 5, 9, 40, 70};
  std::vector<double> scaled = y;
  for (double& value : scaled) value *= 1e6;
  EXPECT_NEAR(fit_power_law(lengths, y)->exponent, fit_power_law(lengths, scaled)->exponent, 1e-12);
  EXPECT_NEAR(fit_power_law(lengths, y)->r_squared, fit_power_law(lengths, scaled)->r_squared, 1e-12);
}

/// log₂x = 0, 1, 2, 3 and log₂y = 0, 2, 1, 3: deviations of ±1.5 and ±0.5, so that Σuv = 4, Σu² = Σv² = 5.
TEST(PowerLaw, noise_has_the_exponent_and_r_squared_that_are_computed_by_hand) {
  const auto found = fit_power_law({1, 2, 4, 8}, {1, 4, 2, 8});
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->exponent, 0.8, 1e-12);
  EXPECT_NEAR(found->r_squared, 0.64, 1e-12);
}

TEST(PowerLaw, the_order_of_the_points_does_not_matter) {
  const auto found = fit_power_law({8, 1, 4, 2}, {8, 1, 2, 4});
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->exponent, 0.8, 1e-12);
  EXPECT_NEAR(found->r_squared, 0.64, 1e-12);
}

TEST(PowerLaw, what_does_not_grow_is_explained_wholly_by_the_exponent_0) {
  for (const double value : {1.0, 0.1, 12345.678}) {
    const auto found = fit_power_law(lengths, std::vector<double>(lengths.size(), value));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->exponent, 0);
    EXPECT_EQ(found->r_squared, 1);
  }
}

TEST(PowerLaw, two_points_are_enough_and_fit_exactly) {
  const auto found = fit_power_law({100, 1000}, {7, 700});
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->exponent, 2, 1e-12);
  EXPECT_NEAR(found->r_squared, 1, 1e-12);
}

TEST(PowerLaw, there_is_none_for_fewer_than_two_lengths) {
  EXPECT_FALSE(fit_power_law({}, {}));
  EXPECT_FALSE(fit_power_law({256}, {1}));
  EXPECT_FALSE(fit_power_law({256, 256}, {1, 2}));
}

TEST(PowerLaw, there_is_none_for_numbers_that_have_no_logarithm) {
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {0.0, -1.0, infinity, nan}) {
    EXPECT_FALSE(fit_power_law({1, 2, 3}, {1, bad, 3}));
    EXPECT_FALSE(fit_power_law({1, bad, 3}, {1, 2, 3}));
  }
}

std::vector<Range> around(const std::vector<double>& y, double factor) {
  std::vector<Range> ranges;
  for (const double value : y) ranges.push_back({value / factor, value * factor});
  return ranges;
}

TEST(PowerLaw, exact_points_on_a_line_leave_no_uncertainty) {
  const auto found = fit_power_law(lengths, law(lengths, 3, 1.5), around(law(lengths, 3, 1.5), 1));
  EXPECT_NEAR(found->uncertainty.value(), 0, 1e-6);
  EXPECT_FALSE(found->uncertain);
}

/// log₂x = 0, 1, 2 and ranges of a factor 2 about y: the exponent may be off by a half in each direction.
TEST(PowerLaw, the_spread_of_repeats_makes_the_exponent_uncertain) {
  const std::vector<double> x{1, 2, 4}, y{1, 4, 16};
  const auto narrow = fit_power_law(x, y, around(y, 1.05)), wide = fit_power_law(x, y, around(y, std::sqrt(2)));
  EXPECT_NEAR(narrow->uncertainty.value(), std::log2(1.05), 1e-12);
  EXPECT_FALSE(narrow->uncertain);
  EXPECT_NEAR(wide->uncertainty.value(), 0.5, 1e-12);
  EXPECT_TRUE(wide->uncertain);
}

/// However near the repeats are to each other, and if each point was measured once.
TEST(PowerLaw, of_two_points_the_uncertainty_is_unknown) {
  const std::vector<double> x{1, 2}, y{1, 4};
  for (const auto& ranges : {around(y, 1), around(y, 1.01), std::vector<Range>()}) {
    const auto found = fit_power_law(x, y, ranges);
    EXPECT_NEAR(found->exponent, 2, 1e-12);
    EXPECT_FALSE(found->uncertainty);
    EXPECT_TRUE(found->uncertain);
  }
}

/// Three points of x, and one in the middle that does not move the exponent: but its repeats differ more than the ends
/// do.
TEST(PowerLaw, a_spread_larger_than_the_trend_makes_it_uncertain) {
  const std::vector<double> x{1, 2, 4}, y{1, 1.1, 1.21};
  std::vector<Range> ranges = around(y, 1.001);
  EXPECT_FALSE(fit_power_law(x, y, ranges)->uncertain);
  ranges[1] = {0.8, 1.4};
  EXPECT_TRUE(fit_power_law(x, y, ranges)->uncertain);
}

/// Residuals ±0.9, ±0.3 about the line of exponent 0.8 above: √(Σr²/(n − 2)/Σu²) = √(1.8/2/5).
TEST(PowerLaw, scatter_about_the_line_makes_it_uncertain) {
  const auto found = fit_power_law({1, 2, 4, 8}, {1, 4, 2, 8});
  EXPECT_NEAR(found->uncertainty.value(), std::sqrt(1.8 / 2 / 5), 1e-12);
  EXPECT_TRUE(found->uncertain);
}

}  // namespace
}  // namespace bsbr::apps
