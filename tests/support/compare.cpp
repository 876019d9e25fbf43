// Comparing arrays: see compare.hpp.
#include "support/compare.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

namespace bsbr::testing {
namespace {

double difference(double actual, double expected) {
  const double gap = std::abs(actual - expected);
  return std::isnan(gap) ? std::numeric_limits<double>::infinity() : gap;
}

/// "[2, 0, 7]"
std::string place(std::size_t index, const std::vector<std::int64_t>& shape) {
  std::string text;
  auto left = static_cast<std::int64_t>(index);
  for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent) {
    text = std::to_string(left % *extent) + (text.empty() ? "" : ", ") + text;
    left /= *extent;
  }
  return "[" + text + "]";
}

std::string list(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const auto extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + text + "]";
}

}  // namespace

double largest_difference(const std::vector<double>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) largest = std::max(largest, difference(actual[i], expected[i]));
  return largest;
}

::testing::AssertionResult all_close(const Numbers& actual, const Numbers& expected, double tolerance) {
  if (actual.shape != expected.shape || actual.values.size() != expected.values.size()) {
    return ::testing::AssertionFailure() << "the shape is " << list(actual.shape) << " with " << actual.values.size()
                                         << " numbers, expected " << list(expected.shape) << " with "
                                         << expected.values.size();
  }
  std::ostringstream first;
  first.precision(17);
  std::size_t count = 0;
  for (std::size_t i = 0; i < actual.values.size(); ++i) {
    if (difference(actual.values[i], expected.values[i]) <= tolerance) continue;
    if (++count > 5) continue;
    first << "\n  " << place(i, actual.shape) << ": " << actual.values[i] << ", expected " << expected.values[i];
  }
  if (count == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << count << " of " << actual.values.size() << " numbers differ by more than "
                                       << tolerance << ", largest difference "
                                       << largest_difference(actual.values, expected.values) << ":" << first.str();
}

}  // namespace bsbr::testing
