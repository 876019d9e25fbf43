// Comparing arrays bit by bit: a NaN equals itself, and −0 is not 0.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace bsbr::testing {

/// Succeeds if the arrays have the same size and the same bits; else tells how many rows of `width` numbers differ, and
/// the first of them.
template <class Real>
::testing::AssertionResult same_bits(const std::vector<Real>& actual, const std::vector<Real>& expected,
                                     std::int64_t width) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure() << actual.size() << " numbers, expected " << expected.size();
  }
  const auto columns = static_cast<std::size_t>(width);
  std::size_t rows = 0, first = 0;
  for (std::size_t row = 0; row * columns < actual.size(); ++row) {
    if (std::memcmp(&actual[row * columns], &expected[row * columns], columns * sizeof(Real)) == 0) continue;
    if (rows++ == 0) first = row;
  }
  if (rows == 0) return ::testing::AssertionSuccess();
  std::size_t i = first * columns;
  while (std::memcmp(&actual[i], &expected[i], sizeof(Real)) == 0) ++i;
  auto failure = ::testing::AssertionFailure();
  failure << rows << " of " << actual.size() / columns << " rows differ, the first at row " << first << ", column "
          << i % columns << ": " << ::testing::PrintToString(actual[i]) << ", expected "
          << ::testing::PrintToString(expected[i]) << " (off by " << ::testing::PrintToString(actual[i] - expected[i])
          << ")";
  return failure;
}

/// Rows [first, first + count) of an array of rows of `width` numbers.
template <class Real>
std::vector<Real> rows_of(const std::vector<Real>& values, std::int64_t width, std::int64_t first, std::int64_t count) {
  const auto begin = values.begin() + first * width;
  return {begin, begin + count * width};
}

}  // namespace bsbr::testing
