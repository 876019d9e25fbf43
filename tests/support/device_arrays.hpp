// Numbers to the memory of the kernels and back, and comparisons of what comes back.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "bsbr/types.hpp"
#include "support/bits.hpp"
#include "support/compare.hpp"
#include "support/reals.hpp"

namespace bsbr::testing {

/// A device array of these extents that holds these numbers, converted.
template <class Data, class Number, class... Extent>
Array<Data> to_device(const std::vector<Number>& numbers, Extent... extents) {
  using Value = typename Array<Data>::non_const_value_type;
  const Array<typename Array<Data>::non_const_data_type> array("test::array", static_cast<std::size_t>(extents)...);
  if (numbers.size() != array.size()) throw std::logic_error("to_device: the extents do not hold that many numbers");
  const auto host = Kokkos::create_mirror_view(array);
  std::transform(numbers.begin(), numbers.end(), host.data(),
                 [](const Number number) { return static_cast<Value>(number); });
  Kokkos::deep_copy(array, host);
  return array;
}

/// The numbers of a dense device array, last index fastest.
template <class View>
std::vector<typename View::non_const_value_type> to_host(const View& array) {
  const auto host = Kokkos::create_mirror_view(array);
  Kokkos::deep_copy(host, array);
  return {host.data(), host.data() + array.size()};
}

/// Numbers that float holds exactly, so that both precisions compute from the same.
inline std::vector<double> in_float(std::vector<double> numbers) {
  for (double& number : numbers) number = static_cast<double>(static_cast<float>(number));
  return numbers;
}

template <class Real>
std::vector<double> widen(const std::vector<Real>& numbers) {
  return {numbers.begin(), numbers.end()};
}

inline double largest_magnitude(const std::vector<double>& numbers) {
  double largest = 0;
  for (const double number : numbers) largest = std::max(largest, std::abs(number));
  return largest;
}

/// How far a kernel in Real may be from `exact`: in double nothing but rounding; in float twice as far as `naive`, the
/// plain loops in float.
template <class Real>
double bound(const std::vector<double>& exact, const std::vector<Real>& naive) {
  if (sizeof(Real) == sizeof(double)) return 1e-13 * std::max(1.0, largest_magnitude(exact));
  return 2 * largest_difference(widen(naive), exact) + 1e-5;
}

}  // namespace bsbr::testing
