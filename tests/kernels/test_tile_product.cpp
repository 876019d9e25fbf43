// The small product inside kernels, where each row takes a range of the depth: what it does not take does not matter,
// whatever it holds.
#include "kernels/tile_product.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/scratch.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::DepthRange;

constexpr int depth = 40;

/// Rows of which each takes [begin(row), end(row)) of the depth.
struct Ranges {
  const char* name;
  int first_begin, begin_step, first_end, end_step;  // of a row, and from each row to the next

  KOKKOS_FUNCTION DepthRange operator()(int row) const {
    const auto clamp = [](int k) { return k < 0 ? 0 : k > depth ? depth : k; };
    return {clamp(first_begin + row * begin_step), clamp(first_end + row * end_step)};
  }
};
constexpr Ranges all_ranges[] = {{"whole", 0, 0, depth, 0}, {"causal", 0, 0, 1, 1}, {"suffix", 0, 1, depth, 0},
                                 {"window", -6, 1, 1, 1},   {"empty", 0, 0, 0, 0},  {"apart", 0, 7, 7, 7},
                                 {"late", -40, 3, -30, 3}};

/// c after c += a·b over the ranges [rows, columns]; or, `whole`, by add_product, with the factors that a says.
template <class Real>
std::vector<Real> multiply(int rows, int columns, const std::vector<double>& a, const std::vector<double>& b,
                           const Ranges& range, bool whole) {
  const int stride = kernels::padded<Real>(columns);
  std::vector<double> rows_of_b(static_cast<std::size_t>(depth * stride), 0),
      start(static_cast<std::size_t>(rows * stride), 0.5);
  for (int k = 0; k < depth; ++k) {
    for (int column = 0; column < columns; ++column) rows_of_b[k * stride + column] = b[k * columns + column];
  }
  const auto left = to_device<Real*>(a, a.size()), right = to_device<Real*>(rows_of_b, rows_of_b.size());
  const auto result = to_device<Real*>(start, start.size());
  Kokkos::parallel_for(
      "test::product", kernels::team_policy(Execution(), 1, 0), KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        const kernels::LeftFactor<Real> factor{left.data(), depth, 1};
        if (whole) {
          kernels::add_product(team, rows, columns, depth, factor, static_cast<const Real*>(right.data()), stride,
                               result.data(), stride);
        } else {
          kernels::add_product_of_ranges(team, rows, columns, range, factor, static_cast<const Real*>(right.data()),
                                         stride, result.data(), stride);
        }
      });
  const auto padded = to_host(result);
  std::vector<Real> product;
  for (int row = 0; row < rows; ++row)
    product.insert(product.end(), &padded[row * stride], &padded[row * stride] + columns);
  return product;
}

/// Factors [rows, depth] with `outside` in place of those that a row does not take.
std::vector<double> with_outside(std::vector<double> a, int rows, const Ranges& range, double outside) {
  for (int row = 0; row < rows; ++row) {
    for (int k = 0; k < depth; ++k) {
      if (k < range(row).begin || k >= range(row).end) a[static_cast<std::size_t>(row * depth + k)] = outside;
    }
  }
  return a;
}

template <class Real>
class ProductOfRanges : public ::testing::Test {
 protected:
  template <class Check>
  void for_each_shape(const Check& check) {
    for (const Ranges& range : all_ranges) {
      for (const int rows : {1, 5, 6, 7, 13, 32}) {
        for (const int columns : {1, 5, 16, 33, 64, 80, 112}) {
          SCOPED_TRACE(std::string(range.name) + ", " + std::to_string(rows) + " rows, " + std::to_string(columns) +
                       " columns");
          check(range, rows, columns, random_matrix(rows, depth, 1).values, random_matrix(depth, columns, 2).values);
        }
      }
    }
  }
};
TYPED_TEST_SUITE(ProductOfRanges, Reals, RealNames);

TYPED_TEST(ProductOfRanges, has_the_bits_of_a_product_with_zeros_outside) {
  this->for_each_shape([](const Ranges& range, int rows, int columns, const auto& a, const auto& b) {
    const auto expected = multiply<TypeParam>(rows, columns, with_outside(a, rows, range, 0), b, range, true);
    EXPECT_TRUE(same_bits(multiply<TypeParam>(rows, columns, a, b, range, false), expected, columns));
  });
}

TYPED_TEST(ProductOfRanges, takes_no_notice_of_factors_outside) {
  this->for_each_shape([](const Ranges& range, int rows, int columns, const auto& a, const auto& b) {
    const auto junk = with_outside(a, rows, range, std::numeric_limits<double>::quiet_NaN());
    EXPECT_TRUE(same_bits(multiply<TypeParam>(rows, columns, junk, b, range, false),
                          multiply<TypeParam>(rows, columns, a, b, range, false), columns));
  });
}

TYPED_TEST(ProductOfRanges, keeps_what_is_not_finite_to_the_rows_that_take_it) {
  const double infinity = std::numeric_limits<double>::infinity();
  this->for_each_shape([&](const Ranges& range, int rows, int columns, const auto& a, const auto& b) {
    const auto expected = multiply<TypeParam>(rows, columns, a, b, range, false);
    for (const double bad : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
      const int place = 11;
      auto changed = b;
      changed[static_cast<std::size_t>(place * columns + columns / 2)] = bad;
      const auto actual = multiply<TypeParam>(rows, columns, a, changed, range, false);
      for (int row = 0; row < rows; ++row) {
        const bool takes = range(row).begin <= place && place < range(row).end;
        for (int column = 0; column < columns; ++column) {
          const auto i = static_cast<std::size_t>(row * columns + column);
          if (takes && column == columns / 2) {
            EXPECT_FALSE(std::isfinite(actual[i])) << row;
          } else {
            EXPECT_EQ(actual[i], expected[i]) << row << ", " << column;
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace bsbr::testing
