// The gradients of each attention alone, against central differences, and what holds of them exactly.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>

#include "reference/central_differences.hpp"
#include "reference/parts.hpp"
#include "support/random_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

using reference::AttentionInput;
using reference::Mask;
using reference::Matrix;

struct Member {
  const char* name;
  Matrix AttentionInput::*matrix;
};

constexpr std::array members{Member{"query", &AttentionInput::query},
                             Member{"key", &AttentionInput::key},
                             Member{"value", &AttentionInput::value},
                             Member{"gate", &AttentionInput::gate},
                             Member{"retrieval_query", &AttentionInput::retrieval_query},
                             Member{"retrieval_key", &AttentionInput::retrieval_key},
                             Member{"compress_weight", &AttentionInput::compress_weight},
                             Member{"compress_bias", &AttentionInput::compress_bias},
                             Member{"decompress_weight", &AttentionInput::decompress_weight},
                             Member{"decompress_bias", &AttentionInput::decompress_bias},
                             Member{"null_logit", &AttentionInput::null_logit},
                             Member{"retrieval_gate", &AttentionInput::retrieval_gate}};

/// D = 6, 2 heads of width 3, chunks of 3 tokens; compressed states have 3 elements.
std::vector<ModelConfig> small_variants() {
  ModelConfig sizes;
  sizes.hidden_dim = 6;
  sizes.num_heads = 2;
  sizes.chunk_size = 3;
  sizes.compression_factor = 2;
  return variants(sizes);
}

constexpr std::int64_t length = 17;  // five chunks and two tokens

/// No padding; holes; the third and fourth chunk, so that three chunks take r from the second; and all tokens.
std::vector<Mask> masks() {
  Mask gap(length, 1);
  std::fill(gap.begin() + 6, gap.begin() + 12, std::uint8_t{0});
  return {{}, random_mask(length, 0.3, 3), gap, Mask(length, 0)};
}

double inner_product(const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) sum += a.values[i] * b.values[i];
  return sum;
}

class AttentionGradient : public ::testing::TestWithParam<ModelConfig> {};

void expect_central_differences(const ModelConfig& config, std::int64_t tokens, const Mask& mask) {
  AttentionInput input = random_attention_input(config, tokens, 11);
  const Matrix dout = random_matrix(tokens, config.attention_dim(), 12);
  const AttentionInput gradient = reference::attention_gradient(config, input, mask, dout);
  for (const Member& member : members) {
    const Matrix differences = derivatives(
        input.*member.matrix, [&] { return inner_product(dout, reference::attention(config, input, mask)); });
    EXPECT_TRUE(agrees_with_differences(gradient.*member.matrix, differences)) << member.name;
  }
}

TEST_P(AttentionGradient, is_that_of_central_differences) {
  for (const Mask& mask : masks()) {
    SCOPED_TRACE("padding: " + std::to_string(std::count(mask.begin(), mask.end(), 0)));
    expect_central_differences(GetParam(), length, mask);
  }
}

TEST_P(AttentionGradient, is_that_of_central_differences_for_one_token_and_for_one_chunk) {
  expect_central_differences(GetParam(), 1, {});
  expect_central_differences(GetParam(), GetParam().chunk_size, {});
}

/// Whether each chunk has a real token.
bool is_real_chunk(const Mask& mask, std::int64_t chunk, std::int64_t chunk_size) {
  const std::int64_t begin = chunk * chunk_size, end = std::min(begin + chunk_size, length);
  return std::count(mask.begin() + begin, mask.begin() + end, 1) > 0;
}

void fill_row(Matrix& matrix, std::int64_t row, double value) {
  for (std::int64_t column = 0; column < matrix.columns; ++column) matrix(row, column) = value;
}

/// NaN in all that padding must not let anybody read.
AttentionInput with_spoilt_padding(AttentionInput input, const Mask& mask, std::int64_t chunk_size) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (std::int64_t t = 0; t < length; ++t) {
    if (mask[static_cast<std::size_t>(t)] != 0) continue;
    fill_row(input.key, t, nan);
    fill_row(input.value, t, nan);
  }
  for (std::int64_t chunk = 0; chunk < input.retrieval_query.rows; ++chunk) {
    if (is_real_chunk(mask, chunk, chunk_size)) continue;
    fill_row(input.retrieval_query, chunk, nan);
    fill_row(input.retrieval_key, chunk, nan);
  }
  return input;
}

TEST_P(AttentionGradient, of_padding_is_zero_and_what_padding_holds_changes_nothing) {
  const ModelConfig config = GetParam();
  if (!heeds_padding(config)) return;
  const AttentionInput input = random_attention_input(config, length, 21);
  const Matrix dout = random_matrix(length, config.attention_dim(), 22);
  for (const Mask& mask : masks()) {
    if (mask.empty()) continue;
    const auto expected = reference::attention_gradient(config, input, mask, dout);
    const auto actual =
        reference::attention_gradient(config, with_spoilt_padding(input, mask, config.chunk_size), mask, dout);
    for (const Member& member : members) {
      EXPECT_TRUE(all_close(actual.*member.matrix, expected.*member.matrix, 0)) << member.name;
    }
    for (std::int64_t t = 0; t < length; ++t) {
      if (mask[static_cast<std::size_t>(t)] != 0) continue;
      for (std::int64_t column = 0; column < actual.key.columns; ++column) {
        EXPECT_EQ(actual.key(t, column), 0);
        EXPECT_EQ(actual.value(t, column), 0);
      }
    }
  }
}

TEST_P(AttentionGradient, reaches_no_later_token_and_no_earlier_one_than_the_window) {
  const ModelConfig config = GetParam();
  if (!is_causal(config)) return;
  const AttentionInput input = random_attention_input(config, length, 31);
  const std::int64_t window = traits(config.architecture).window(config);
  for (std::int64_t t = 0; t < length; ++t) {
    Matrix dout(length, config.attention_dim());
    for (std::int64_t column = 0; column < dout.columns; ++column) dout(t, column) = 1;
    const auto gradient = reference::attention_gradient(config, input, {}, dout);
    for (std::int64_t s = 0; s < length; ++s) {
      for (std::int64_t column = 0; column < dout.columns; ++column) {
        if (s != t) {
          EXPECT_EQ(gradient.query(s, column), 0) << s << " of " << t;
        }
        const bool seen = s <= t && t - s <= window;
        EXPECT_TRUE(seen || (gradient.key(s, column) == 0 && gradient.value(s, column) == 0)) << s << " of " << t;
      }
    }
  }
}

TEST_P(AttentionGradient, of_arguments_that_do_not_fit_is_refused) {
  const ModelConfig config = GetParam();
  const AttentionInput input = random_attention_input(config, length, 41);
  EXPECT_THROW(reference::attention_gradient(config, input, {}, Matrix(length - 1, config.attention_dim())),
               std::invalid_argument);
  EXPECT_THROW(reference::attention_gradient(config, input, Mask(length - 1, 1), input.query), std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionGradient, ::testing::ValuesIn(small_variants()),
                         [](const auto& test) { return variant_name(test.param); });

// ---- What holds of some architectures -------------------------------------------------------------------------------

TEST(AttentionGradientOfBsbr, r_and_h_have_none_where_there_is_one_chunk_to_retrieve_from) {
  auto config = small_config(Architecture::bsbr);
  for (const std::int64_t compression : {0, 3}) {
    config.compression_factor = compression;
    const std::int64_t two_chunks = 2 * config.chunk_size;
    const auto input = random_attention_input(config, two_chunks, 51);
    const auto gradient =
        reference::attention_gradient(config, input, {}, random_matrix(two_chunks, config.attention_dim(), 52));
    EXPECT_EQ(largest_magnitude(gradient.retrieval_query), 0);
    EXPECT_EQ(largest_magnitude(gradient.retrieval_key), 0);
    EXPECT_GT(largest_magnitude(gradient.key), 0);
  }
}

TEST(AttentionGradientOfBsbr, a_row_that_several_chunks_take_r_from_has_the_sum_of_theirs) {
  auto config = small_config(Architecture::bsbr);
  const std::int64_t B = config.chunk_size, tokens = 6 * B;
  Mask mask(static_cast<std::size_t>(tokens), 1);
  std::fill_n(mask.begin() + 2 * B, 2 * B, std::uint8_t{0});  // chunks 2, 3 and 4 take r from chunk 1
  const auto input = random_attention_input(config, tokens, 61);
  const Matrix dout = random_matrix(tokens, config.attention_dim(), 62);
  Matrix sum(1, config.hidden_dim);
  for (std::int64_t i = 2; i <= 4; ++i) {
    Matrix of_chunk(tokens, config.attention_dim());
    for (std::int64_t t = i * B; t < (i + 1) * B; ++t) reference::add_row(of_chunk, t, 1, dout, t);
    const Matrix part = reference::attention_gradient(config, input, mask, of_chunk).retrieval_query;
    EXPECT_GT(largest_magnitude(part), 0) << i;
    reference::add_row(sum, 0, 1, part, 1);
  }
  const Matrix whole = reference::attention_gradient(config, input, mask, dout).retrieval_query;
  Matrix row(1, config.hidden_dim);
  reference::add_row(row, 0, 1, whole, 1);
  EXPECT_TRUE(all_close(row, sum, 1e-13 * largest_magnitude(sum)));
}

TEST(AttentionGradientOfDeltaNet, length_of_a_short_key_is_a_constant) {
  auto config = small_config(Architecture::delta_net);
  config.hidden_dim = config.num_heads = 1;
  const auto input_of = [](double key) {
    AttentionInput input;
    input.query = Matrix(2, 1), input.key = Matrix(2, 1), input.value = Matrix(2, 1);
    input.query.values = {1, 1}, input.key.values = {key, 1}, input.value.values = {3, 5};
    return input;
  };
  Matrix dout(2, 1);
  dout.values = {1, 0};  // o_0 = β k_0 v_0, k_0 = key/1e-12
  for (const double key : {0.0, 0.25e-12, 0.999e-12}) {
    const auto gradient = reference::attention_gradient(config, input_of(key), {}, dout);
    EXPECT_NEAR(gradient.key(0, 0), config.beta * 3 / 1e-12, 1e-2) << key;
    EXPECT_NEAR(gradient.value(0, 0), config.beta * key / 1e-12, 1e-14) << key;
  }
  const auto longer = reference::attention_gradient(config, input_of(1.001e-12), {}, dout);
  EXPECT_NEAR(longer.key(0, 0) * 1e-12, 0, 1e-15);  // k_0 = 1, whatever the key's length
}

}  // namespace
}  // namespace bsbr::testing
