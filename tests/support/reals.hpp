// The two precisions, for typed tests: TYPED_TEST_SUITE(Suite, Reals, RealNames).
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <type_traits>

namespace bsbr::testing {

using Reals = ::testing::Types<float, double>;

/// "float" and "double" in the names of tests, instead of 0 and 1.
struct RealNames {
  template <class Real>
  static std::string GetName(int) {
    return std::is_same_v<Real, float> ? "float" : "double";
  }
};

}  // namespace bsbr::testing
