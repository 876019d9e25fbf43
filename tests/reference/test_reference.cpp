// The reference by itself: values that are known by other means, and the properties that follow from
// docs/mathematics.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "architectures/traits.hpp"
#include "reference/parts.hpp"
#include "support/compare.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using reference::AttentionInput;
using reference::Mask;
using reference::Matrix;

Matrix matrix(std::int64_t rows, std::int64_t columns, std::vector<double> values) {
  Matrix result(rows, columns);
  result.values = std::move(values);
  return result;
}

/// The rows [begin, end).
Matrix rows_of(const Matrix& all, std::int64_t begin, std::int64_t end) {
  const auto first = all.values.begin() + static_cast<std::ptrdiff_t>(begin * all.columns);
  return matrix(end - begin, all.columns, {first, first + static_cast<std::ptrdiff_t>((end - begin) * all.columns)});
}

Matrix without_rows(const Matrix& all, std::int64_t begin, std::int64_t end) {
  Matrix head = rows_of(all, 0, begin);
  const Matrix tail = rows_of(all, end, all.rows);
  head.values.insert(head.values.end(), tail.values.begin(), tail.values.end());
  head.rows += tail.rows;
  return head;
}

// ---- Formulas -------------------------------------------------------------------------------------------------------

TEST(Reference, gelu_is_the_exact_one) {
  EXPECT_EQ(reference::gelu(0), 0);
  EXPECT_NEAR(reference::gelu(1), 0.84134474606854295, 1e-15);
  EXPECT_NEAR(reference::gelu(-1), -0.15865525393145705, 1e-15);
  EXPECT_NEAR(reference::gelu(3), 2.9959503059051101, 1e-14);
  EXPECT_EQ(reference::gelu(40), 40);
  EXPECT_EQ(reference::gelu(-40), 0);
}

TEST(Reference, positions_are_sines_and_cosines_of_the_place) {
  const std::int64_t width = 5;  // odd: the last column is a sine
  const auto p = reference::embed(std::vector<std::int64_t>(12, 0), Matrix(1, width));
  for (std::int64_t t = 0; t < p.rows; ++t) {
    const auto place = static_cast<double>(t);
    EXPECT_DOUBLE_EQ(p(t, 0), std::sin(place));
    EXPECT_DOUBLE_EQ(p(t, 1), std::cos(place));
    EXPECT_NEAR(p(t, 2), std::sin(place / std::pow(10, 1.6)), 1e-15);  // 10000^(2/5)
    EXPECT_NEAR(p(t, 3), std::cos(place / std::pow(10, 1.6)), 1e-15);
    EXPECT_NEAR(p(t, 4), std::sin(place / std::pow(10, 3.2)), 1e-15);
  }
}

TEST(Reference, embedding_is_the_row_of_the_id_plus_the_position) {
  const auto table = matrix(3, 2, {1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(
      all_close(reference::embed({2, 0}, table), matrix(2, 2, {5, 7, 1 + std::sin(1), 2 + std::cos(1)}), 1e-15));
}

TEST(Reference, layer_norm_uses_the_biased_variance) {
  const auto y = reference::layer_norm(matrix(1, 2, {1, 3}), matrix(1, 2, {2, 3}), matrix(1, 2, {0, 1}));
  const double unit = 1 / std::sqrt(1 + 1e-5);
  EXPECT_TRUE(all_close(y, matrix(1, 2, {-2 * unit, 3 * unit + 1}), 1e-15));
}

TEST(Reference, linear_is_x_times_transposed_weight_plus_bias) {
  const auto y =
      reference::linear(matrix(1, 2, {1, 2}), matrix(3, 2, {1, 0, 0, 1, 10, 100}), matrix(1, 3, {0.5, 0, -1}));
  EXPECT_TRUE(all_close(y, matrix(1, 3, {1.5, 2, 209}), 0));
}

/// One head of width 1 makes every formula scalar.
ModelConfig scalar_config(Architecture architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.hidden_dim = config.num_heads = 1;
  config.chunk_size = 2;
  return config;
}

AttentionInput scalar_input(std::vector<double> query, std::vector<double> key, std::vector<double> value) {
  const auto length = static_cast<std::int64_t>(query.size());
  AttentionInput input;
  input.query = matrix(length, 1, std::move(query));
  input.key = matrix(length, 1, std::move(key));
  input.value = matrix(length, 1, std::move(value));
  return input;
}

TEST(Reference, linear_attention_by_hand) {
  auto config = scalar_config(Architecture::linear);
  const auto input = scalar_input({1, 2, -1}, {1, -3, 0.5}, {2, 1, 4});
  EXPECT_TRUE(all_close(reference::attention(config, input, {}), matrix(3, 1, {2, 2 * (2 - 3), -(2 - 3 + 2)}), 1e-15));
  config.feature_map = FeatureMap::elu;  // φ(z) = z + 1 or e^z; φ(q) cancels where the head's width is 1
  const double e3 = std::exp(-3);
  EXPECT_TRUE(all_close(reference::attention(config, input, {}),
                        matrix(3, 1, {2, (4 + e3) / (2 + e3), (4 + e3 + 6) / (2 + e3 + 1.5)}), 1e-15));
}

TEST(Reference, delta_net_by_hand) {
  auto config = scalar_config(Architecture::delta_net);
  config.beta = 0.5;  // k becomes ±1, or stays 0
  const auto input = scalar_input({3, 2, -1, 0}, {2, -3, 0, 1}, {2, 1, 4, 1});
  EXPECT_TRUE(all_close(reference::attention(config, input, {}), matrix(4, 1, {1, 1 - 0.5 * (1 + 1), -0.0, 0}), 1e-15));
}

TEST(Reference, gau_by_hand) {
  const auto config = scalar_config(Architecture::gau);
  auto input = scalar_input({1, 0, 2}, {1, 2, 3}, {5, 7, 11});
  input.gate = matrix(3, 1, {0, 0, std::log(3)});  // σ: 1/2, 1/2, 3/4
  EXPECT_TRUE(
      all_close(reference::attention(config, input, {}), matrix(3, 1, {2.5, 3, 0.75 * (11 + 2 * (5 + 14))}), 1e-13));
}

TEST(Reference, absent_keys_of_a_ragged_chunk_take_part_in_the_reference_causality) {
  auto config = scalar_config(Architecture::bsbr);
  config.causality = Causality::reference;
  config.chunk_size = 1 << 30;
  auto input = scalar_input({2}, {1}, {3});
  input.retrieval_query = input.retrieval_key = matrix(1, 1, {0});
  const double local = 3 * std::exp(2) / (std::exp(2) + (1 << 30) - 1);
  EXPECT_TRUE(all_close(reference::attention(config, input, {}), matrix(1, 1, {local + 2 * 3}), 1e-15));
}

// ---- Properties -----------------------------------------------------------------------------------------------------

class Reference : public ::testing::TestWithParam<Architecture> {};

TEST_P(Reference, no_token_changes_what_comes_before_it) {
  auto config = small_config(GetParam());
  if (GetParam() == Architecture::bsbr) config.compression_factor = 3;
  const auto weights = random_weight_map(config, 1);
  const auto ids = random_ids(17, config.vocab_size, 2);
  const auto mask = random_mask(17, 0.2, 3);
  const auto whole = reference::forward(config, weights, ids, mask);
  for (std::int64_t length = 0; length <= 17; ++length) {
    const auto end = static_cast<std::ptrdiff_t>(length);
    const auto prefix =
        reference::forward(config, weights, {ids.begin(), ids.begin() + end}, {mask.begin(), mask.begin() + end});
    EXPECT_TRUE(all_close(prefix.hidden_states, rows_of(whole.hidden_states, 0, length), 0)) << length;
  }
}

TEST_P(Reference, masked_tokens_change_nothing_elsewhere) {
  const auto config = small_config(GetParam());
  const auto weights = random_weight_map(config, 1);
  auto ids = random_ids(23, config.vocab_size, 2);
  auto mask = random_mask(23, 0.3, 3);
  std::fill(mask.begin() + 10, mask.begin() + 15, std::uint8_t{0});  // a whole chunk
  auto before = reference::forward(config, weights, ids, mask).hidden_states;
  for (std::size_t t = 0; t < ids.size(); ++t) ids[t] = mask[t] ? ids[t] : (ids[t] + 7) % config.vocab_size;
  const auto after = reference::forward(config, weights, ids, mask).hidden_states;
  for (std::int64_t t = 0; t < before.rows; ++t) {
    if (mask[static_cast<std::size_t>(t)] == 0) continue;
    EXPECT_TRUE(all_close(rows_of(after, t, t + 1), rows_of(before, t, t + 1), 0)) << t;
  }
}

TEST(ReferenceSoftmax, scores_far_below_zero_give_weights_all_the_same) {
  const auto weights = reference::softmax({-2000, -2000, -3000});
  EXPECT_EQ(weights, (std::vector<double>{0.5, 0.5, 0}));
}

TEST_P(Reference, row_without_real_tokens_gives_zeros) {
  const auto config = small_config(GetParam());
  const auto out = reference::attention(config, random_attention_input(config, 12, 1), Mask(12, 0));
  EXPECT_TRUE(all_close(out, Matrix(12, config.attention_dim()), 0));
}

TEST_P(Reference, all_real_is_no_mask) {
  const auto config = small_config(GetParam());
  const auto input = random_attention_input(config, 12, 1);
  EXPECT_TRUE(all_close(reference::attention(config, input, Mask(12, 1)), reference::attention(config, input, {}), 0));
}

TEST_P(Reference, empty_sequence_gives_an_empty_result) {
  const auto config = small_config(GetParam());
  const auto result = reference::forward(config, random_weight_map(config, 1), {}, {});
  EXPECT_EQ(result.hidden_states.rows, 0);
  EXPECT_EQ(result.hidden_states.columns, config.hidden_dim);
  EXPECT_EQ(result.layers.size(), 2u);
}

TEST_P(Reference, arguments_that_do_not_fit_are_refused) {
  const auto config = small_config(GetParam());
  const auto input = random_attention_input(config, 12, 1);
  EXPECT_THROW(reference::attention(config, input, Mask(11, 1)), std::invalid_argument);
  for (auto member : {&AttentionInput::query, &AttentionInput::key, &AttentionInput::value, &AttentionInput::gate,
                      &AttentionInput::retrieval_query}) {
    auto wrong = input;
    if ((wrong.*member).values.empty()) continue;
    wrong.*member = Matrix(11, 12);
    EXPECT_THROW(reference::attention(config, wrong, {}), std::invalid_argument);
  }
  const auto weights = random_weight_map(config, 1);
  EXPECT_THROW(reference::forward(config, weights, {0, config.vocab_size}, {}), std::invalid_argument);
  EXPECT_THROW(reference::forward(config, weights, {-1}, {}), std::invalid_argument);
  EXPECT_THROW(reference::forward(config, weights, {1, 2}, {1}), std::invalid_argument);
  EXPECT_THROW(reference::forward(config, {}, {1}, {}), std::invalid_argument);
}

std::vector<Architecture> all_architectures() {
  std::vector<Architecture> all;
  for (const auto& entry : architectures) all.push_back(entry.value);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Architectures, Reference, ::testing::ValuesIn(all_architectures()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(ReferenceEqual, long_windows_and_chunks_and_unit_temperature_are_standard) {
  const std::int64_t length = 14;
  auto config = small_config(Architecture::standard);
  config.chunk_size = length;
  config.window_size = length - 1;
  config.temperature = 1;
  config.architecture = Architecture::bsbr;
  const auto input = random_attention_input(config, length, 5);
  const auto mask = random_mask(length, 0.3, 6);
  const auto evaluate = [&](Architecture architecture) {
    config.architecture = architecture;
    return reference::attention(config, input, mask);
  };
  const auto standard = evaluate(Architecture::standard);
  EXPECT_TRUE(all_close(evaluate(Architecture::sliding_window), standard, 0));
  EXPECT_TRUE(all_close(evaluate(Architecture::hopfield), standard, 0));
  EXPECT_TRUE(all_close(evaluate(Architecture::bsbr), standard, 0));
}

class ReferenceCausality : public ::testing::TestWithParam<Causality> {};

TEST_P(ReferenceCausality, masking_a_whole_chunk_is_leaving_it_out) {
  auto config = small_config(Architecture::bsbr);
  config.causality = GetParam();
  const std::int64_t length = 23, B = config.chunk_size;
  for (const std::int64_t compression : {0, 3}) {
    config.compression_factor = compression;
    const auto input = random_attention_input(config, length, 5);
    for (std::int64_t chunk = 0; chunk < 4; ++chunk) {
      Mask mask(static_cast<std::size_t>(length), 1);
      std::fill_n(mask.begin() + static_cast<std::ptrdiff_t>(chunk * B), B, std::uint8_t{0});
      auto shorter = input;
      for (auto member : {&AttentionInput::query, &AttentionInput::key, &AttentionInput::value}) {
        shorter.*member = without_rows(input.*member, chunk * B, (chunk + 1) * B);
      }
      for (auto member : {&AttentionInput::retrieval_query, &AttentionInput::retrieval_key}) {
        shorter.*member = without_rows(input.*member, chunk, chunk + 1);
      }
      const auto masked = without_rows(reference::attention(config, input, mask), chunk * B, (chunk + 1) * B);
      EXPECT_TRUE(all_close(reference::attention(config, shorter, {}), masked, 1e-14))
          << "chunk " << chunk << ", compression " << compression;
    }
  }
}

TEST(ReferenceCausality, reference_ignores_the_mask) {
  auto config = small_config(Architecture::bsbr);
  config.causality = Causality::reference;
  const auto weights = random_weight_map(config, 1);
  const auto ids = random_ids(23, config.vocab_size, 2);
  EXPECT_TRUE(all_close(reference::forward(config, weights, ids, random_mask(23, 0.4, 3)).hidden_states,
                        reference::forward(config, weights, ids, {}).hidden_states, 0));
}

INSTANTIATE_TEST_SUITE_P(Causalities, ReferenceCausality,
                         ::testing::Values(Causality::causal, Causality::block_causal, Causality::bidirectional),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace bsbr::testing
