// Rows turned into columns.
#include "kernels/transpose.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "support/reals.hpp"

namespace bsbr::testing {
namespace {

template <class Real>
class Transpose : public ::testing::Test {};
TYPED_TEST_SUITE(Transpose, Reals, RealNames);

/// Number k of row i.
template <class Real>
Real number(int i, int k) {
  return static_cast<Real>(1000 * i + k + 1);
}

/// Every third row is missing.
template <class Real>
void check_transposes() {
  for (const int count : {1, 7, 16, 33, 64}) {
    for (const int width : {1, 5, 16, 17, 64, 80}) {
      std::vector<Real> rows(static_cast<std::size_t>(count * width));
      for (int i = 0; i < count; ++i) {
        for (int k = 0; k < width; ++k) rows[static_cast<std::size_t>(i * width + k)] = number<Real>(i, k);
      }
      const int stride = kernels::padded<Real>(count) + 3;
      std::vector<Real> columns(static_cast<std::size_t>(width * stride), std::numeric_limits<Real>::quiet_NaN());
      const auto row = [&](int i) -> const Real* {
        return i % 3 == 2 ? nullptr : &rows[static_cast<std::size_t>(i * width)];
      };
      kernels::transpose_rows(kernels::SerialTeam{}, count, width, Real(0.5), row, columns.data(), stride);
      for (int k = 0; k < width; ++k) {
        for (int i = 0; i < kernels::padded<Real>(count); ++i) {
          const Real expected = i >= count || i % 3 == 2 ? Real(0) : number<Real>(i, k) / 2;
          ASSERT_EQ(columns[static_cast<std::size_t>(k * stride + i)], expected)
              << count << " x " << width << ": " << i << ", " << k;
        }
        for (int i = kernels::padded<Real>(count); i < stride; ++i)
          ASSERT_TRUE(columns[static_cast<std::size_t>(k * stride + i)] != 0);
      }
    }
  }
}

TYPED_TEST(Transpose, columns_are_rows_times_a_factor_and_zeros_where_there_is_no_row) {
  if constexpr (kernels::on_host) {
    check_transposes<TypeParam>();
  } else {
    GTEST_SKIP() << "on a GPU a kernel's team is no SerialTeam";
  }
}

}  // namespace
}  // namespace bsbr::testing
