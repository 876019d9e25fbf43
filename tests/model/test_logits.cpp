// Logits of few rows: those of plain loops, with the bits that losses are formed from, whatever rows are asked
// together.
#include <gtest/gtest.h>

#include "bsbr/loss.hpp"
#include "bsbr/sampling.hpp"
#include "support/allocations.hpp"
#include "support/bits.hpp"
#include "support/device_arrays.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t one_block = 1024;  // ids

ModelConfig config_with(std::int64_t vocab_size, std::int64_t width = 12, Head head = Head::separate) {
  ModelConfig config = small_config(Architecture::linear);
  config.vocab_size = vocab_size;
  config.hidden_dim = width;
  config.head = head;
  return config;
}

/// Rows that numbers in float hold exactly.
reference::Matrix rows_of_states(std::int64_t rows, std::int64_t width) {
  reference::Matrix y = random_matrix(rows, width, 7);
  y.values = in_float(y.values);
  return y;
}

template <class Real>
Array<const Real**> on_device(const reference::Matrix& rows) {
  return to_device<Real**>(rows.values, rows.rows, rows.columns);
}

/// [rows, vocab_size]
template <class Real>
std::vector<Real> logits_of(LogitLayer<Real>& head, const Array<const Real**>& y) {
  const auto logits = head.logits(Execution(), y);
  std::vector<Real> all;
  for (std::size_t row = 0; row < logits.extent(0); ++row)
    all.insert(all.end(), &logits(row, 0), &logits(row, 0) + logits.extent(1));
  return all;
}

template <class Real>
void expect_plain_loops(const ModelConfig& config, double tolerance) {
  const reference::WeightMap map = random_weight_map(config, 1);
  const reference::Matrix& head = map.at(config.head == Head::tied ? "embedding.weight" : "lm_head.weight");
  LogitLayer<Real> layer(to_weights<Real>(config, map));
  for (const std::int64_t rows : {1, 3, 17}) {
    const reference::Matrix y = rows_of_states(rows, config.hidden_dim);
    reference::Matrix expected(rows, config.vocab_size);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t id = 0; id < config.vocab_size; ++id) {
        for (std::int64_t k = 0; k < config.hidden_dim; ++k) expected(row, id) += y(row, k) * head(id, k);
      }
    }
    const std::vector<Real> found = logits_of(layer, on_device<Real>(y));
    const double scale = std::max(1.0, largest_magnitude(expected.values));
    EXPECT_TRUE(all_close({found, {rows, config.vocab_size}}, expected, tolerance * scale)) << rows << " rows";
  }
}

TEST(LogitLayer, gives_the_logits_of_plain_loops_with_either_head) {
  for (const Head head : {Head::tied, Head::separate}) {
    for (const std::int64_t vocab_size : {1, 31, 300}) {
      expect_plain_loops<double>(config_with(vocab_size, 12, head), 1e-10);
      expect_plain_loops<float>(config_with(vocab_size, 12, head), 2e-5);
    }
  }
  expect_plain_loops<double>(config_with(2 * one_block + 5, 702), 1e-10);
  expect_plain_loops<float>(config_with(2 * one_block + 5, 702), 2e-5);
}

template <class Real>
void expect_bits_of_each_row_alone(const ModelConfig& config) {
  LogitLayer<Real> head(to_weights<Real>(config, random_weight_map(config, 1)));
  constexpr std::int64_t most = 20;
  const Array<const Real**> y = on_device<Real>(rows_of_states(most, config.hidden_dim));
  const auto first_rows = [&](std::int64_t first, std::int64_t count) {
    return logits_of<Real>(head, Array<const Real**>(&y(first, 0), count, config.hidden_dim));
  };
  std::vector<Real> alone;
  for (std::int64_t row = 0; row < most; ++row) {
    const std::vector<Real> one = first_rows(row, 1);
    alone.insert(alone.end(), one.begin(), one.end());
  }
  for (const std::int64_t rows : {2, 5, 6, 7, 16, 20}) {
    EXPECT_TRUE(same_bits(first_rows(0, rows), rows_of(alone, config.vocab_size, 0, rows), config.vocab_size)) << rows;
    EXPECT_TRUE(same_bits(first_rows(most - rows, rows), rows_of(alone, config.vocab_size, most - rows, rows),
                          config.vocab_size));
  }
}

TEST(LogitLayer, gives_a_row_the_same_bits_whatever_rows_are_asked_together) {
  for (const std::int64_t vocab_size : {31l, one_block + 3}) {
    expect_bits_of_each_row_alone<float>(config_with(vocab_size, 132));
    expect_bits_of_each_row_alone<double>(config_with(vocab_size, 132));
  }
}

/// loss = log_sum − logit of the target, of each id as the target of the same hidden states.
template <class Real>
void expect_logits_of_losses(const ModelConfig& config) {
  const Weights<Real> weights = to_weights<Real>(config, random_weight_map(config, 1));
  const reference::Matrix y = rows_of_states(1, config.hidden_dim);
  LogitLayer<Real> layer(weights);
  const std::vector<Real> logits = logits_of(layer, on_device<Real>(y));
  const std::int64_t ids = config.vocab_size;
  std::vector<double> repeated;
  std::vector<std::int64_t> targets;
  for (std::int64_t id = 0; id < ids; ++id) {
    repeated.insert(repeated.end(), y.values.begin(), y.values.end());
    targets.push_back(id);
  }
  const Sequence sequence(MPI_COMM_SELF, 1, ids, config.chunk_size);
  const TokenLosses found =
      OutputLayer<Real>(weights).losses(Execution(), sequence, to_device<Real***>(repeated, 1, ids, config.hidden_dim),
                                        to_device<std::int32_t**>(targets, 1, ids));
  const std::vector<double> log_sums = to_host(found.log_sum);
  std::vector<double> expected;
  for (std::size_t id = 0; id < logits.size(); ++id) expected.push_back(log_sums[id] - static_cast<double>(logits[id]));
  EXPECT_TRUE(same_bits(to_host(found.loss), expected, 1));
}

TEST(LogitLayer, has_the_bits_that_losses_are_formed_from) {
  for (const std::int64_t vocab_size : {1l, 31l, 2 * one_block, 2 * one_block + 5}) {
    expect_logits_of_losses<float>(config_with(vocab_size, 42));
    expect_logits_of_losses<double>(config_with(vocab_size, 42));
  }
}

TEST(LogitLayer, of_a_model_without_a_head_is_refused) {
  EXPECT_THROW(LogitLayer<float>(random_weights<float>(config_with(31, 12, Head::none), 1)), ConfigError);
}

TEST(LogitLayer, refuses_rows_of_another_width_and_takes_none) {
  LogitLayer<float> head(random_weights<float>(config_with(31), 1));
  EXPECT_THROW(head.logits(Execution(), Array<float**>("test::y", 2, 13)), ShapeError);
  EXPECT_EQ(head.logits(Execution(), Array<float**>("test::y", 0, 12)).extent(0), 0u);
}

/// Exactly, but for what Kokkos rounds up; more rows than before replace the buffer, fewer do not.
template <class Real>
void expect_predicted_memory(const ModelConfig& config) {
  const Weights<Real> weights = random_weights<Real>(config, 1);
  const Array<Real**> y("test::y", 9, config.hidden_dim), one("test::y", 1, config.hidden_dim);
  const AllocationRecorder recorder;
  LogitLayer<Real> head(weights);
  head.logits(Execution(), y);
  head.logits(Execution(), one);
  const auto allocations = recorder.without({});
  const std::int64_t predicted = logit_layer_bytes<Real>(config, 9), allocated = total_bytes(allocations);
  EXPECT_GE(allocated, predicted) << ::testing::PrintToString(allocations);
  EXPECT_LE(allocated, predicted + 128 * static_cast<std::int64_t>(allocations.size()))
      << ::testing::PrintToString(allocations);
}

TEST(LogitLayer, takes_the_memory_that_is_predicted) {
  for (const std::int64_t vocab_size : {31l, 3 * one_block - 7}) {
    expect_predicted_memory<float>(config_with(vocab_size));
    expect_predicted_memory<double>(config_with(vocab_size));
  }
}

}  // namespace
}  // namespace bsbr::testing
