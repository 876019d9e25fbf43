// The reference's losses and gradients against every file of golden_gradients, in all causalities.
#include <gtest/gtest.h>

#include <set>

#include "support/compare.hpp"
#include "support/golden.hpp"

namespace bsbr::testing {
namespace {

constexpr double tolerance = 1e-10;  // of the largest element of all gradients (golden_gradients/README.md)

reference::Batch batch_of(const GoldenGradientCase& golden) {
  return {golden.length, golden.ids, golden.targets, golden.mask};
}

/// Without the last column, [N, L − 1]: golden files have no loss of the last token.
std::vector<double> without_last_column(const reference::Matrix& matrix) {
  std::vector<double> values;
  for (std::int64_t row = 0; row < matrix.rows; ++row) {
    for (std::int64_t column = 0; column + 1 < matrix.columns; ++column) values.push_back(matrix(row, column));
  }
  return values;
}

class GoldenGradientFile : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenGradientFile, reference_gives_the_expected_losses_and_gradients) {
  const auto golden = read_golden_gradients(GetParam());
  ASSERT_FALSE(golden.outputs.empty());
  double worst = 0;
  for (const auto& expected : golden.outputs) {
    SCOPED_TRACE(to_string(expected.config.causality));
    const auto actual = reference::loss_and_gradients(expected.config, golden.weights, batch_of(golden));
    EXPECT_NEAR(actual.loss.mean, expected.loss, tolerance);
    const std::vector<std::int64_t> shape{golden.batch, golden.length - 1};
    EXPECT_TRUE(
        all_close({without_last_column(actual.loss.token_loss), shape}, {expected.token_loss, shape}, tolerance));
    const double largest = expected.largest();
    EXPECT_EQ(actual.gradients.size(), expected.gradients.size());
    for (const auto& [name, gradient] : expected.gradients) {
      ASSERT_TRUE(actual.gradients.contains(name)) << name;
      EXPECT_TRUE(all_close(actual.gradients.at(name), gradient, tolerance * largest)) << name;
      const double difference = largest_difference(actual.gradients.at(name).values, gradient.values);
      worst = std::max(worst, difference / largest);
    }
  }
  RecordProperty("largest_difference", std::to_string(worst * 1e12) + "e-12");
}

TEST_P(GoldenGradientFile, targets_are_the_next_tokens) {
  const auto golden = read_golden_gradients(GetParam());
  EXPECT_EQ(reference::next_tokens(golden.ids, golden.mask, golden.length), golden.targets);
}

TEST_P(GoldenGradientFile, weights_and_gradients_are_those_of_the_weight_table) {
  const auto golden = read_golden_gradients(GetParam());
  ASSERT_NO_THROW(golden.config.validate());
  const auto table = weight_table(golden.config);
  EXPECT_EQ(table.size(), golden.weights.size());
  for (const auto& output : golden.outputs) {
    EXPECT_EQ(table.size(), output.gradients.size());
    for (const auto& weight : table) {
      EXPECT_TRUE(golden.weights.contains(weight.name)) << weight.name;
      EXPECT_TRUE(output.gradients.contains(weight.name)) << weight.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenGradientFile, ::testing::ValuesIn(golden_gradient_names()),
                         [](const auto& test) { return test.param; });

TEST(GoldenGradientFiles, cover_every_kind_of_head_with_a_loss_and_seven_architectures) {
  std::set<Head> heads;
  std::set<Architecture> seen;
  for (const auto& name : golden_gradient_names()) {
    const auto config = read_golden_gradients(name).config;
    heads.insert(config.head);
    seen.insert(config.architecture);
  }
  EXPECT_EQ(heads, (std::set{Head::tied, Head::separate}));
  EXPECT_EQ(seen.size(), 7u);  // an eighth has central differences only, until somebody makes files for it
}

}  // namespace
}  // namespace bsbr::testing
