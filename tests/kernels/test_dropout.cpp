// Dropout: the generator against its published numbers, which elements are dropped, and that only their places decide.
#include "kernels/dropout.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "kernels/rows.hpp"
#include "support/device_arrays.hpp"
#include "support/dropout.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::Dropout;
using kernels::DropoutPlace;

using Words = std::vector<std::uint32_t>;

Words philox_of(const Words& counter, std::uint64_t key) {
  const kernels::PhiloxWords bits = kernels::philox({{counter[0], counter[1], counter[2], counter[3]}}, key);
  return {std::begin(bits.word), std::end(bits.word)};
}

/// Known answers of Random123, the library of the paper's authors.
TEST(Philox, gives_the_published_numbers) {
  EXPECT_EQ(philox_of({0, 0, 0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox_of({~0u, ~0u, ~0u, ~0u}, ~std::uint64_t{0}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox_of({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

/// Some sequences' tokens from `first` on.
struct Rows {
  std::int64_t batch, tokens, width, first = 0;
  std::int64_t first_sequence = 0;

  std::size_t size() const { return static_cast<std::size_t>(batch * tokens * width); }
};

template <class Real>
std::vector<Real> dropped(const Dropout& dropout, const Rows& rows, const std::vector<double>& values) {
  const auto x = to_device<Real***>(values, rows.batch, rows.tokens, rows.width);
  const Real* begin = x.data();
  kernels::for_each_row(
      Execution(), "test::dropout", x, KOKKOS_LAMBDA(const kernels::Team& team, Real* row) {
        const std::int64_t index = (row - begin) / rows.width;
        dropout.apply(team, rows.first_sequence + index / rows.tokens, rows.first + index % rows.tokens,
                      static_cast<int>(rows.width), row);
      });
  Execution().fence();
  return to_host(x);
}

const Dropout some(0.3, 7, 11, 2, DropoutPlace::attention);

template <class Real>
class DropoutOfRows : public ::testing::Test {};
TYPED_TEST_SUITE(DropoutOfRows, Reals, RealNames);

TYPED_TEST(DropoutOfRows, keeps_the_share_that_it_should_and_the_expectation) {
  const Rows rows{4, 250, 101};
  for (const double p : {0.1, 0.5, 0.9}) {
    const auto result =
        dropped<TypeParam>(Dropout(p, 1, 2, 3, DropoutPlace::embedding), rows, std::vector<double>(rows.size(), 1));
    const auto count = static_cast<double>(result.size());
    double sum = 0, zeros = 0;
    for (const TypeParam x : result) {
      EXPECT_TRUE(x == 0 || std::abs(x * (1 - p) - 1) < 1e-6) << x;
      zeros += x == 0 ? 1 : 0;
      sum += x;
    }
    const double deviation = std::sqrt(p * (1 - p) / count);
    EXPECT_NEAR(zeros / count, p, 4 * deviation);
    EXPECT_NEAR(sum / count, 1, 4 * deviation / (1 - p));
  }
}

/// The plain twin: one element at a time, by the definition.
TYPED_TEST(DropoutOfRows, drops_what_the_counter_of_its_place_says) {
  for (const std::int64_t width : {1, 4, 7, 64, 101}) {
    const Rows rows{2, 5, width, (std::int64_t{1} << 33) + 3, 9};
    const auto values = random_matrix(1, static_cast<std::int64_t>(rows.size()), 8).values;
    std::vector<TypeParam> expected;
    const StepDropout twin{0.3, 7, 11};
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const std::int64_t column = at % width, token = at / width % rows.tokens, sequence = at / width / rows.tokens;
      const bool is_kept =
          twin.keeps(reference::DropoutPlace::attention, 2, rows.first_sequence + sequence, rows.first + token, column);
      expected.push_back(is_kept ? static_cast<TypeParam>(values[i]) * static_cast<TypeParam>(1 / 0.7) : TypeParam(0));
    }
    EXPECT_TRUE(same_bits(dropped<TypeParam>(some, rows, values), expected, width)) << width;
  }
}

TYPED_TEST(DropoutOfRows, does_not_depend_on_which_rows_a_rank_has) {
  const Rows rows{3, 20, 37};
  const auto values = random_matrix(1, static_cast<std::int64_t>(rows.size()), 8).values;
  const auto whole = dropped<TypeParam>(some, rows, values);
  for (std::int64_t sequence = 0; sequence < rows.batch; ++sequence) {
    for (const auto& [first, last] : {std::pair{0, 1}, {0, 7}, {7, 8}, {8, 20}}) {
      const auto place = (sequence * rows.tokens + first) * rows.width, count = (last - first) * rows.width;
      EXPECT_TRUE(same_bits(
          dropped<TypeParam>(some, {1, last - first, rows.width, first, sequence}, rows_of(values, 1, place, count)),
          rows_of(whole, 1, place, count), rows.width))
          << "sequence " << sequence << ", tokens " << first << " to " << last;
    }
  }
}

TYPED_TEST(DropoutOfRows, is_linear_so_that_the_gradient_is_the_same_function) {
  const Rows rows{2, 6, 13};
  const auto x = random_matrix(1, static_cast<std::int64_t>(rows.size()), 1).values,
             dy = random_matrix(1, static_cast<std::int64_t>(rows.size()), 2).values;
  const auto y = dropped<TypeParam>(some, rows, x), dx = dropped<TypeParam>(some, rows, dy);
  double of_result = 0, of_input = 0;  // Σ dy·y = Σ dx·x
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(y[i] == 0, dx[i] == 0);
    of_result += dy[i] * static_cast<double>(y[i]);
    of_input += static_cast<double>(dx[i]) * x[i];
  }
  EXPECT_NEAR(of_result, of_input, sizeof(TypeParam) == 8 ? 1e-13 : 1e-5);
}

TYPED_TEST(DropoutOfRows, with_probability_0_changes_no_bit) {
  const Rows rows{1, 2, 5};
  auto values = random_matrix(1, 10, 3).values;
  values[1] = -0.0;
  values[4] = std::numeric_limits<double>::quiet_NaN();
  std::vector<TypeParam> expected(values.begin(), values.end());
  EXPECT_TRUE(same_bits(dropped<TypeParam>(Dropout(0, 1, 1, 1, DropoutPlace::attention), rows, values), expected, 5));
  EXPECT_TRUE(same_bits(dropped<TypeParam>(Dropout(), rows, values), expected, 5));
  EXPECT_FALSE(Dropout(0, 1, 1, 1, DropoutPlace::attention).drops());
}

TYPED_TEST(DropoutOfRows, with_probability_1_leaves_nothing) {
  const Rows rows{1, 3, 50};
  const std::vector<double> values(rows.size(), std::numeric_limits<double>::infinity());
  for (const TypeParam x : dropped<TypeParam>(Dropout(1, 1, 1, 1, DropoutPlace::attention), rows, values))
    EXPECT_EQ(x, 0);
}

TYPED_TEST(DropoutOfRows, leaves_nothing_of_what_is_not_finite_and_dropped) {
  const Rows rows{1, 4, 50};
  const auto ones = dropped<TypeParam>(some, rows, std::vector<double>(rows.size(), 1)),
             nans = dropped<TypeParam>(some, rows, std::vector<double>(rows.size(), std::nan("")));
  for (std::size_t i = 0; i < ones.size(); ++i) EXPECT_EQ(nans[i] == 0, ones[i] == 0) << i;
}

/// Which elements of some rows are dropped, as a mask.
std::vector<float> mask_of(const Dropout& dropout) {
  const Rows rows{2, 8, 64};
  return dropped<float>(dropout, rows, std::vector<double>(rows.size(), 1));
}

TEST(Dropout, is_another_one_for_each_seed_step_layer_and_place) {
  std::set<std::vector<float>> masks;
  for (const std::uint64_t seed : {1, 2}) {
    for (const std::int64_t step : {1, 2}) {
      for (const std::int64_t layer : {0, 1}) {
        for (const auto place : {DropoutPlace::embedding, DropoutPlace::attention, DropoutPlace::feed_forward})
          masks.insert(mask_of(Dropout(0.5, seed, step, layer, place)));
      }
    }
  }
  EXPECT_EQ(masks.size(), 24u);
}

/// Neighbours in every direction, which share parts of a counter, are dropped independently: so many pairs agree as of
/// coins.
TEST(Dropout, of_neighbouring_columns_tokens_sequences_and_steps_is_independent) {
  const Rows rows{20, 50, 40};
  const auto mask = [&](std::int64_t step) {
    return dropped<float>(Dropout(0.5, 3, step, 0, DropoutPlace::attention), rows, std::vector<double>(rows.size(), 1));
  };
  const auto now = mask(1), next = mask(2);
  const auto agreement = [](const std::vector<float>& a, const std::vector<float>& b, std::size_t distance) {
    double pairs = 0, equal = 0;
    for (std::size_t i = 0; i + distance < a.size(); ++i, ++pairs) equal += (a[i] == 0) == (b[i + distance] == 0);
    return equal / pairs;
  };
  const double deviation = 0.5 / std::sqrt(static_cast<double>(rows.size()));
  for (const std::size_t distance : {1, 2, 3, 4, 40, 80, 2000})
    EXPECT_NEAR(agreement(now, now, distance), 0.5, 4 * deviation) << distance;
  EXPECT_NEAR(agreement(now, next, 0), 0.5, 4 * deviation);
}

}  // namespace
}  // namespace bsbr::testing
