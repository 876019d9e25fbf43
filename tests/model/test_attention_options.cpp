// What the options that let BSBR learn do to an attention on Views: properties, many of them exact.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/causality.hpp"
#include "support/attention.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

template <class Real>
class AttentionOptions : public ::testing::Test {
 protected:
  static double tolerance() { return std::is_same_v<Real, float> ? 2e-5 : 1e-12; }
};
TYPED_TEST_SUITE(AttentionOptions, Reals, RealNames);

ModelConfig sizes(Architecture architecture = Architecture::bsbr) {
  ModelConfig config;
  config.architecture = architecture;
  config.hidden_dim = 12;
  config.num_heads = traits(architecture).has_one_head ? 1 : 3;
  config.chunk_size = 7;
  return config;
}

/// bsbr in all causalities, with and without compression.
std::vector<ModelConfig> bsbr_variants() {
  std::vector<ModelConfig> all;
  for (const auto& causality : causalities) {
    for (const std::int64_t compression : {0, 3}) {
      ModelConfig config = sizes();
      config.causality = causality.value;
      config.compression_factor = compression;
      all.push_back(config);
    }
  }
  return all;
}

/// Rows [0, rows) of a matrix, each of them twice.
reference::Matrix with_each_row_twice(const reference::Matrix& matrix) {
  reference::Matrix doubled(2 * matrix.rows, matrix.columns);
  for (std::int64_t row = 0; row < doubled.rows; ++row) {
    for (std::int64_t column = 0; column < matrix.columns; ++column) doubled(row, column) = matrix(row / 2, column);
  }
  return doubled;
}

template <class Real>
std::vector<Real> every_other_row(const std::vector<Real>& rows, std::int64_t width) {
  std::vector<Real> half;
  for (std::size_t begin = 0; begin < rows.size(); begin += static_cast<std::size_t>(2 * width))
    half.insert(half.end(), rows.begin() + static_cast<std::ptrdiff_t>(begin),
                rows.begin() + static_cast<std::ptrdiff_t>(begin) + width);
  return half;
}

TYPED_TEST(AttentionOptions, a_state_that_is_a_mean_does_not_grow_with_its_chunk) {
  ModelConfig config = sizes();
  config.causality = Causality::bidirectional;  // a softmax over a chunk is the same with each token twice
  for (const std::int64_t compression : {0, 3}) {
    config.compression_factor = compression;
    ModelConfig longer = config;
    longer.chunk_size *= 2;
    const auto numbers = random_attention(config, 4 * config.chunk_size + 2, 1);
    auto doubled = numbers;
    for (const auto rows : {&AttentionNumbers::query, &AttentionNumbers::key, &AttentionNumbers::value})
      doubled.*rows = with_each_row_twice(numbers.*rows);
    const auto difference = [&](StateScale scale) {
      config.state_scale = longer.state_scale = scale;
      return largest_difference(
          widen(every_other_row(run_attention<TypeParam>(longer, doubled, {}), config.hidden_dim)),
          widen(run_attention<TypeParam>(config, numbers, {})));
    };
    EXPECT_LT(difference(StateScale::mean), this->tolerance()) << compression;
    EXPECT_GT(difference(StateScale::sum), 0.1) << compression;
  }
}

TYPED_TEST(AttentionOptions, a_mean_is_over_the_real_tokens_of_its_chunk) {
  for (const Architecture architecture : {Architecture::bsbr, Architecture::gau}) {
    ModelConfig config = sizes(architecture), padded = config;
    config.state_scale = padded.state_scale = StateScale::mean;
    padded.chunk_size *= 2;  // each real token has one behind it that is padding
    const std::int64_t length = 3 * config.chunk_size + 2;
    const auto numbers = random_attention(config, length, 1);
    auto spread = numbers;
    for (const auto rows :
         {&AttentionNumbers::query, &AttentionNumbers::key, &AttentionNumbers::value, &AttentionNumbers::gate})
      spread.*rows = with_each_row_twice(numbers.*rows);
    reference::Mask mask(static_cast<std::size_t>(2 * length), 0);
    for (std::size_t t = 0; t < mask.size(); t += 2) mask[t] = 1;
    const auto expected = widen(run_attention<TypeParam>(config, numbers, {})),
               actual = widen(every_other_row(run_attention<TypeParam>(padded, spread, mask), config.hidden_dim));
    EXPECT_LT(largest_difference(actual, expected), this->tolerance()) << to_string(architecture);
  }
}

/// Attention within the chunks and nothing else, as no chunk by itself retrieves anything in `causal`: of each chunk
/// alone.
template <class Real>
std::vector<Real> within_chunks(const ModelConfig& config, const AttentionNumbers& numbers) {
  std::vector<Real> all;
  for (std::int64_t first = 0; first < numbers.query.rows; first += config.chunk_size) {
    AttentionNumbers chunk = numbers;
    const std::int64_t count = std::min(config.chunk_size, numbers.query.rows - first);
    for (const auto rows : {&AttentionNumbers::query, &AttentionNumbers::key, &AttentionNumbers::value}) {
      chunk.*rows = reference::Matrix(count, numbers.query.columns);
      (chunk.*rows).values = rows_of((numbers.*rows).values, numbers.query.columns, first, count);
    }
    const std::int64_t index = first / config.chunk_size;
    for (const auto rows : {&AttentionNumbers::retrieval_query, &AttentionNumbers::retrieval_key}) {
      chunk.*rows = reference::Matrix(1, numbers.query.columns);
      (chunk.*rows).values = rows_of((numbers.*rows).values, numbers.query.columns, index, 1);
    }
    const auto part = run_attention<Real>(config, chunk, {});
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

TYPED_TEST(AttentionOptions, a_gate_of_zero_leaves_attention_within_chunks_and_one_of_one_is_as_published) {
  for (ModelConfig config : bsbr_variants()) {
    const auto published = config;
    config.retrieval_gate = 1;
    SCOPED_TRACE(describe(config));
    auto numbers = random_attention(config, 45, 1);
    std::fill(numbers.retrieval_gate.values.begin(), numbers.retrieval_gate.values.end(), 0);
    if (config.causality == Causality::causal) {
      EXPECT_EQ(run_attention<TypeParam>(config, numbers, {}), within_chunks<TypeParam>(published, numbers));
    }
    std::fill(numbers.retrieval_gate.values.begin(), numbers.retrieval_gate.values.end(), 1);
    EXPECT_TRUE(same_bits(run_attention<TypeParam>(config, numbers, {}),
                          run_attention<TypeParam>(published, numbers, {}), config.hidden_dim));
  }
}

/// One head of one column whose queries are 1 and values 0, and whose states are compressed to c, whatever they are: a
/// token's result is c times the sum of the weights of its chunk.
AttentionNumbers sum_of_weights(const ModelConfig& config, std::int64_t length, double null_logit) {
  auto numbers = random_attention(config, length, 1);
  const auto fill = [](reference::Matrix& matrix, double value) {
    std::fill(matrix.values.begin(), matrix.values.end(), value);
  };
  fill(numbers.query, 1), fill(numbers.value, 0), fill(numbers.retrieval_query, 0);  // all scores are 0
  fill(numbers.compress_weight, 0), fill(numbers.compress_bias, 1);
  fill(numbers.decompress_weight, 1), fill(numbers.decompress_bias, 0);
  if (has_null_chunk(config)) fill(numbers.null_logit, null_logit);
  return numbers;
}

TYPED_TEST(AttentionOptions, with_a_null_chunk_weights_sum_to_less_than_one) {
  ModelConfig config = sizes();
  config.hidden_dim = config.num_heads = config.compression_factor = 1;
  for (const auto& causality : causalities) {
    config.causality = causality.value;
    const std::int64_t chunks = 5, length = (chunks - 1) * config.chunk_size + 1;
    for (const double null_logit : {-1.0, 0.0, 2.5}) {
      config.null_chunk = 1;
      const auto with = run_attention<TypeParam>(config, sum_of_weights(config, length, null_logit), {});
      config.null_chunk = 0;
      const auto without = run_attention<TypeParam>(config, sum_of_weights(config, length, null_logit), {});
      for (std::int64_t i = 0; i < chunks; ++i) {
        const Range seen = chunks_seen(causality.value, i, chunks);
        const auto count = static_cast<double>(seen.end - seen.begin);
        const auto token = static_cast<std::size_t>(i * config.chunk_size);
        EXPECT_NEAR(with[token], count == 0 ? 0 : count / (count + std::exp(null_logit)), 1e-6) << i;
        EXPECT_NEAR(without[token], count == 0 ? 0 : 1, 1e-6) << i;
      }
    }
  }
}

TYPED_TEST(AttentionOptions, a_null_logit_of_minus_infinity_is_no_null_chunk) {
  for (ModelConfig config : bsbr_variants()) {
    SCOPED_TRACE(describe(config));
    const auto numbers = random_attention(config, 45, 1);
    const auto expected = run_attention<TypeParam>(config, numbers, {});
    config.null_chunk = 1;
    auto with = numbers;
    with.null_logit = reference::Matrix(1, config.num_heads);
    std::fill(with.null_logit.values.begin(), with.null_logit.values.end(), -std::numeric_limits<double>::infinity());
    EXPECT_TRUE(same_bits(run_attention<TypeParam>(config, with, {}), expected, config.hidden_dim));
  }
}

TYPED_TEST(AttentionOptions, a_chunk_with_nothing_to_retrieve_retrieves_zero_whatever_the_null_chunk_and_the_biases) {
  ModelConfig config = sizes();
  config.null_chunk = config.retrieval_gate = 1;
  config.state_scale = StateScale::mean;
  for (const std::int64_t compression : {0, 3}) {
    config.compression_factor = compression;
    const std::int64_t length = 3 * config.chunk_size;
    auto numbers = random_attention(config, length, 1);
    std::fill(numbers.value.values.begin(), numbers.value.values.end(), 0);  // nothing from within the chunk
    reference::Mask mask(static_cast<std::size_t>(length), 1);
    std::fill_n(mask.begin(), config.chunk_size, std::uint8_t{0});  // chunk 1 has nothing real before it, either
    const auto result = run_attention<TypeParam>(config, numbers, mask);
    for (std::int64_t i = 0; i < 2 * config.chunk_size * config.hidden_dim; ++i)
      EXPECT_EQ(result[static_cast<std::size_t>(i)], 0) << i;
    if (compression > 0) {  // chunk 2 has: the biases
      EXPECT_NE(result.back(), 0);
    }
  }
}

TYPED_TEST(AttentionOptions, normed_results_have_a_mean_square_of_one_in_each_head) {
  ModelConfig config = sizes(Architecture::linear);
  config.output_norm = 1;
  for (const FeatureMap map : {FeatureMap::none, FeatureMap::elu}) {
    config.feature_map = map;
    const auto result = run_attention<TypeParam>(config, random_attention(config, 45, 1), {});
    const auto width = static_cast<std::size_t>(config.head_dim());
    for (std::size_t begin = 0; begin < result.size(); begin += width) {
      double square = 0;
      for (std::size_t i = begin; i < begin + width; ++i)
        square += static_cast<double>(result[i]) * static_cast<double>(result[i]) / static_cast<double>(width);
      EXPECT_NEAR(square, 1, 1e-2) << begin;  // less by 1e-5 over the mean square before
      EXPECT_LT(square, 1 + 1e-6) << begin;
    }
  }
}

TYPED_TEST(AttentionOptions, a_closed_gate_of_gau_comes_after_the_norm) {
  ModelConfig config = sizes(Architecture::gau);
  config.output_norm = 1;
  auto numbers = random_attention(config, 45, 1);
  std::fill(numbers.gate.values.begin(), numbers.gate.values.end(), 30);  // open
  const auto open = run_attention<TypeParam>(config, numbers, {});
  std::fill(numbers.gate.values.begin(), numbers.gate.values.end(),
            0);  // half open: were it before the norm, it would not show
  const auto half = run_attention<TypeParam>(config, numbers, {});
  for (std::size_t i = 0; i < open.size(); ++i) EXPECT_NEAR(half[i], open[i] / 2, 1e-6) << i;
}

}  // namespace
}  // namespace bsbr::testing
