// Derivatives by differences, and what they are compared with.
#pragma once

#include <algorithm>
#include <cmath>

#include "support/compare.hpp"

namespace bsbr::testing {

/// The five-point difference (8 (f(x+h) − f(x−h)) − (f(x+2h) − f(x−2h))) / 12h, which is h⁴/30 of the fifth derivative
/// off, and 1.5 ε/h if f is rounded to ε. `f` is a function of x, whose value is restored.
template <class Function>
double derivative(double& x, const Function& f, double step) {
  const double place = x;
  const auto at = [&](double offset) {
    x = place + offset;
    const double value = f();
    x = place;
    return value;
  };
  return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
}

/// With 2^-15 rounding of 1e-14 (some hundred sums of numbers about 1) makes 5e-10, and the fifth derivative weighs
/// 3e-20; where a norm makes a function curved it was seen to reach 3e11 for a derivative of 31, which makes 7e-9. So
/// 1e-8, relative to the largest derivative where that exceeds 1.
constexpr double difference_step = 0x1p-15, difference_tolerance = 1e-8;

/// df/dx of all elements of x, [rows, columns].
template <class Function>
reference::Matrix derivatives(reference::Matrix& x, const Function& f, double step = difference_step) {
  reference::Matrix result(x.rows, x.columns);
  for (std::size_t i = 0; i < x.values.size(); ++i) result.values[i] = derivative(x.values[i], f, step);
  return result;
}

inline double largest_magnitude(const reference::Matrix& matrix) {
  double largest = 0;
  for (const double value : matrix.values) largest = std::max(largest, std::abs(value));
  return largest;
}

/// Succeeds if the gradient differs from central differences by no more than the tolerance, relative to the gradient's
/// largest element where that exceeds 1.
inline ::testing::AssertionResult agrees_with_differences(const reference::Matrix& gradient,
                                                          const reference::Matrix& differences) {
  return all_close(gradient, differences, difference_tolerance * std::max(1.0, largest_magnitude(differences)));
}

}  // namespace bsbr::testing
