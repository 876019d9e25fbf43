// Comparing arrays: the first places that differ, with their indices, instead of "false".
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "reference/reference.hpp"

namespace bsbr::testing {

/// Numbers and the extents that their indices are told by, last index fastest.
struct Numbers {
  std::vector<double> values;
  std::vector<std::int64_t> shape;

  template <class Real>
  Numbers(const std::vector<Real>& numbers, std::vector<std::int64_t> extents)
      : values(numbers.begin(), numbers.end()), shape(std::move(extents)) {}
  Numbers(const reference::Matrix& matrix) : values(matrix.values), shape{matrix.rows, matrix.columns} {}
};

/// Largest |actual − expected|; infinite where one is NaN and the other is not, or where the sizes differ.
double largest_difference(const std::vector<double>& actual, const std::vector<double>& expected);

/// Succeeds if the shapes are equal and |actual − expected| ≤ tolerance everywhere. NaN equals nothing. Use:
/// EXPECT_TRUE(all_close(…)).
::testing::AssertionResult all_close(const Numbers& actual, const Numbers& expected, double tolerance);

}  // namespace bsbr::testing
