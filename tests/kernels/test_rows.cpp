// Functions of one row by themselves. Norms and biases are tested where they are used, in test_panel_chain.cpp.
#include "kernels/rows.hpp"

#include <gtest/gtest.h>

#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

/// The rows [rows, width] after normalise().
template <class Real>
std::vector<Real> normalised(const std::vector<double>& numbers, std::int64_t width) {
  const std::int64_t rows = static_cast<std::int64_t>(numbers.size()) / width;
  const auto array = to_device<Real***>(numbers, 1, rows, width);
  const auto normalise = KOKKOS_LAMBDA(const kernels::Team& team, Real* row) { kernels::normalise(team, static_cast<int>(width), row); };
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
  for (const std::int64_t width : {1, 2, 5, 12, 15, 16, 17, 64, 80, 128}) this->expect_right(random_matrix(9, width, 1).values, width);
}

TYPED_TEST(Normalise, gives_rows_of_length_one_however_small_and_large_they_are) {
  for (const double size : {1e-11, 1e-6, 1.0, 1e6, 1e18, 1e30}) this->expect_right(random_matrix(5, 12, 2, size).values, 12);
}

TYPED_TEST(Normalise, divides_by_no_less_than_1e_minus_12) {
  this->expect_right(random_matrix(5, 12, 3, 1e-14).values, 12);
  EXPECT_NEAR(normalised<TypeParam>({3e-14, 0, 4e-14}, 3)[2], 0.04, 1e-7);
}

TYPED_TEST(Normalise, leaves_rows_of_zeros) {
  EXPECT_EQ(normalised<TypeParam>(std::vector<double>(24, 0), 12), std::vector<TypeParam>(24, 0));
}

TYPED_TEST(Normalise, of_a_row_that_is_not_finite_is_not_shown_as_one_that_is) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_TRUE(std::isnan(normalised<TypeParam>({1, bad, 1}, 3)[1])) << bad;
  }
}

}  // namespace
}  // namespace bsbr::testing
