// The reference against every golden file: hidden states and layers, in all causalities.
#include <gtest/gtest.h>

#include <set>

#include "support/compare.hpp"
#include "support/golden.hpp"

namespace bsbr::testing {
namespace {

constexpr double tolerance = 1e-10;

/// Outputs of all rows of the batch, laid out as golden files lay them out.
GoldenOutput evaluate(const GoldenCase& golden, const ModelConfig& config) {
  GoldenOutput output{config, {}, {}};
  std::vector<reference::Result> rows;
  for (std::int64_t row = 0; row < golden.batch; ++row) {
    rows.push_back(reference::forward(config, golden.weights, golden.row_ids(row), golden.row_mask(row)));
  }
  const auto append = [](std::vector<double>& all, const reference::Matrix& part) {
    all.insert(all.end(), part.values.begin(), part.values.end());
  };
  for (const auto& row : rows) append(output.hidden_states, row.hidden_states);
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(config.num_layers); ++layer) {
    for (const auto& row : rows) append(output.layers, row.layers.at(layer));
  }
  return output;
}

class Golden : public ::testing::TestWithParam<std::string> {};

TEST_P(Golden, reference_gives_the_expected_hidden_states_and_layers) {
  const auto golden = read_golden(GetParam());
  ASSERT_FALSE(golden.outputs.empty());
  double worst = 0;
  for (const auto& expected : golden.outputs) {
    SCOPED_TRACE(to_string(expected.config.causality));
    const auto actual = evaluate(golden, expected.config);
    const std::vector<std::int64_t> shape{golden.batch, golden.length, golden.config.hidden_dim};
    EXPECT_TRUE(all_close({actual.hidden_states, shape}, {expected.hidden_states, shape}, tolerance));
    worst = std::max(worst, largest_difference(actual.hidden_states, expected.hidden_states));
    if (expected.layers.empty()) continue;
    const std::vector<std::int64_t> all_layers{golden.config.num_layers, golden.batch, golden.length,
                                               golden.config.hidden_dim};
    EXPECT_TRUE(all_close({actual.layers, all_layers}, {expected.layers, all_layers}, tolerance));
    worst = std::max(worst, largest_difference(actual.layers, expected.layers));
  }
  RecordProperty("largest_difference", std::to_string(worst * 1e12) + "e-12");
}

TEST_P(Golden, weights_are_those_of_the_weight_table) {
  const auto golden = read_golden(GetParam());
  ASSERT_NO_THROW(golden.config.validate());
  const auto table = weight_table(golden.config);
  EXPECT_EQ(table.size(), golden.weights.size());
  for (const auto& weight : table) {
    const auto found = golden.weights.find(weight.name);
    ASSERT_NE(found, golden.weights.end()) << weight.name;
    EXPECT_EQ(found->second.rows, weight.shape.size() == 2 ? weight.shape[0] : 1) << weight.name;
    EXPECT_EQ(found->second.columns, weight.shape.back()) << weight.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Golden, ::testing::ValuesIn(golden_names()),
                         [](const auto& test) { return test.param; });

TEST(GoldenFiles, cover_every_architecture) {
  std::set<Architecture> seen;
  for (const auto& name : golden_names()) seen.insert(read_golden(name).config.architecture);
  EXPECT_EQ(seen.size(), architectures.size());
}

}  // namespace
}  // namespace bsbr::testing
