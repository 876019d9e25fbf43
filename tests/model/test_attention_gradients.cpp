// Gradients of attentions on Views, against the reference, alone and across ranks.
#include <gtest/gtest.h>

#include <map>
#include <stdexcept>
#include <utility>

#include "bsbr/error.hpp"
#include "support/attention.hpp"
#include "support/bits.hpp"
#include "support/masks.hpp"
#include "support/reals.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

ModelConfig sizes() {
  ModelConfig config;
  config.hidden_dim = 21;
  config.num_heads = 3;
  config.chunk_size = 5;
  config.ff_dim = 8;
  config.vocab_size = 11;
  return config;
}

double largest(const std::vector<double>& numbers) {
  double most = 0;
  for (const double number : numbers) most = std::max(most, std::abs(number));
  return most;
}

template <class Real>
class AttentionGradients : public ::testing::Test {};
TYPED_TEST_SUITE(AttentionGradients, Reals, RealNames);

template <class Real>
void expect_right(const ModelConfig& config, std::int64_t length, const reference::Mask& mask, std::uint64_t seed) {
  SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens");
  const auto numbers = random_attention(config, length, seed);
  const auto given = random_float_matrix(length, config.attention_dim(), seed + 50);
  const auto expected = reference::attention_gradient(config, numbers, mask, given);
  const std::map<std::string, const reference::Matrix*> by_name{{"query", &expected.query},
                                                                {"key", &expected.key},
                                                                {"value", &expected.value},
                                                                {"gate", &expected.gate},
                                                                {"retrieval_query", &expected.retrieval_query},
                                                                {"retrieval_key", &expected.retrieval_key},
                                                                {"compress_weight", &expected.compress_weight},
                                                                {"compress_bias", &expected.compress_bias},
                                                                {"decompress_weight", &expected.decompress_weight},
                                                                {"decompress_bias", &expected.decompress_bias},
                                                                {"null_logit", &expected.null_logit},
                                                                {"retrieval_gate", &expected.retrieval_gate}};
  // Some gradients are 0 but for rounding, as those of a softmax over one key: of the largest element of all.
  double most = 0;
  for (const auto& [name, exact] : by_name) most = std::max(most, largest(exact->values));
  const double tolerance = (std::is_same_v<Real, float> ? 2e-5 : 1e-12) * most;
  const std::int64_t one_leaf = length;
  for (const auto& [name, gradient] : run_attention_gradient<Real>(config, numbers, mask, given, one_leaf)) {
    const std::vector<double>& exact = by_name.at(name)->values;
    ASSERT_EQ(gradient.size(), exact.size()) << name;
    EXPECT_LE(largest_difference(widen(gradient), exact), tolerance) << name;
  }
}

TYPED_TEST(AttentionGradients, are_those_of_the_reference) {
  if (world_ranks() > 3) return;  // many ranks have the same bits: see below
  for (const ModelConfig& variant : variants(sizes())) {
    for (const std::int64_t length : {1, 2, 5, 6, 33, 150}) {
      expect_right<TypeParam>(variant, length, {}, 1);
      expect_right<TypeParam>(variant, length, random_mask(length, 0.3, 2), 3);
      expect_right<TypeParam>(variant, length, random_mask(length, 0.9, 2), 4);
    }
  }
}

TYPED_TEST(AttentionGradients, of_wide_heads_and_long_chunks_are_those_of_the_reference) {
  if (world_ranks() > 3) return;  // many ranks have the same bits: see below
  ModelConfig config = sizes();
  config.num_heads = 1;
  config.hidden_dim = 50;  // 2,500 elements of a state are five blocks
  config.chunk_size = 70;
  for (const ModelConfig& variant : variants(config)) {
    expect_right<TypeParam>(variant, 331, {}, 1);
    expect_right<TypeParam>(variant, 331, random_mask(331, 0.3, 2), 3);
  }
}

/// The gradients on 2, 3, … ranks, with leaves of so many chunks, have the bits of those on one rank.
template <class Real>
void expect_same_bits_on_ranks(const ModelConfig& config, std::int64_t length, const reference::Mask& mask,
                               std::int64_t leaf_chunks) {
  SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens, leaves of " + std::to_string(leaf_chunks) +
               " chunks");
  const auto numbers = random_attention(config, length, 1);
  const auto given = random_float_matrix(length, config.attention_dim(), 51);
  const auto alone = run_attention_gradient<Real>(config, numbers, mask, given, leaf_chunks);
  for (int count = 2; count <= world_ranks(); ++count) {
    const FirstRanks ranks(count);
    if (!ranks.has_this()) continue;
    const auto together = run_attention_gradient<Real>(config, numbers, mask, given, leaf_chunks, ranks.comm());
    ASSERT_EQ(together.size(), alone.size());
    for (std::size_t i = 0; i < alone.size(); ++i) {
      EXPECT_TRUE(same_bits(together[i].second, alone[i].second, 1)) << alone[i].first << " on " << count << " ranks";
    }
  }
}

TYPED_TEST(AttentionGradients, have_the_same_bits_on_any_number_of_ranks) {
  ModelConfig wide = sizes();
  wide.num_heads = 1;
  wide.hidden_dim = 50;
  for (const ModelConfig& config : {sizes(), wide}) {
    for (const ModelConfig& variant : variants(config)) {
      for (const std::int64_t length : {1, 33, 331}) {
        for (const auto& mask : {reference::Mask(), random_mask(length, 0.5, 2)})
          expect_same_bits_on_ranks<TypeParam>(variant, length, mask, 3);
      }
    }
  }
}

/// BSBR with compression in all causalities: states of 9 elements that become 21, and of 49 that become 2.
std::vector<ModelConfig> compressed_variants() {
  std::vector<ModelConfig> all;
  for (const auto& [heads, factor] : {std::pair<std::int64_t, std::int64_t>{7, 1}, {3, 8}}) {
    ModelConfig config = sizes();
    config.num_heads = heads;
    config.compression_factor = factor;
    for (const ModelConfig& variant : variants_of(Architecture::bsbr, config)) {
      if (compresses_states(variant)) all.push_back(variant);
    }
  }
  return all;
}

/// One with every kind of weight.
ModelConfig weighted_config() {
  for (const ModelConfig& variant : compressed_variants()) {
    if (has_null_chunk(variant) && gates_retrieval(variant) && variant.causality == Causality::causal) return variant;
  }
  throw std::logic_error("no variant of bsbr has all weights");
}

TYPED_TEST(AttentionGradients, of_projections_of_states_are_those_of_the_reference) {
  if (world_ranks() > 3) return;  // many ranks have the same bits: see below
  for (const ModelConfig& variant : compressed_variants()) {
    for (const std::int64_t length : {1, 5, 6, 33, 150}) {
      expect_right<TypeParam>(variant, length, {}, 1);
      expect_right<TypeParam>(variant, length, random_mask(length, 0.9, 2), 4);
    }
  }
}

TYPED_TEST(AttentionGradients, of_projections_of_states_have_the_same_bits_whatever_the_leaves) {
  for (const ModelConfig& variant : compressed_variants()) {
    expect_same_bits_on_ranks<TypeParam>(variant, 33, {}, 1);
    expect_same_bits_on_ranks<TypeParam>(variant, 131, random_mask(131, 0.5, 2), 2);
  }
}

TYPED_TEST(AttentionGradients, of_weights_come_sequence_by_sequence) {
  constexpr std::int64_t length = 33, leaf_chunks = 3;
  const ModelConfig config = weighted_config();
  const auto first = random_attention(config, length, 1);
  auto second = random_attention(config, length, 21);
  for (const auto weight : shared_weights) second.*weight = first.*weight;
  const auto joined = [](auto one, const auto& other) {
    one.insert(one.end(), other.begin(), other.end());
    return one;
  };
  const auto both = [&](const reference::Matrix& one, const reference::Matrix& other) {
    return to_device<TypeParam***>(joined(one.values, other.values), 2, one.rows, one.columns);
  };
  const auto given = random_float_matrix(length, config.attention_dim(), 51),
             other_given = random_float_matrix(length, config.attention_dim(), 52);
  const auto mask = random_mask(length, 0.5, 2), other_mask = random_mask(length, 0.5, 3);

  AttentionInput<TypeParam> input;
  AttentionGradient<TypeParam> gradient;
  input.query = both(first.query, second.query);
  gradient.query = both(given, given);
  input.key = both(first.key, second.key);
  gradient.key = both(given, given);
  input.value = both(first.value, second.value);
  gradient.value = both(given, given);
  input.retrieval_query = both(first.retrieval_query, second.retrieval_query);
  input.retrieval_key = both(first.retrieval_key, second.retrieval_key);
  gradient.retrieval_query = both(first.retrieval_query, second.retrieval_query);
  gradient.retrieval_key = both(first.retrieval_key, second.retrieval_key);
  put_weights(first, input);
  const Sequence sequence(MPI_COMM_SELF, 2, length, config.chunk_size);
  gradient.leaf_chunks = leaf_chunks;
  reserve_weights(config, sequence, gradient);
  const PaddingMask padding(Execution(), sequence, to_device<std::uint8_t**>(joined(mask, other_mask), 2, length));
  const Array<TypeParam***> output("test::output", 2, length, config.attention_dim());
  const auto attention = Attention<TypeParam>::create(config, sequence);
  AttentionRecord<TypeParam> record;
  attention->forward(Execution(), padding, input, output, nullptr, nullptr, &record);
  attention->backward(Execution(), padding, input, record, output, both(given, other_given), gradient);
  Execution().fence();

  const auto of_first = run_attention_gradient<TypeParam>(config, first, mask, given, leaf_chunks),
             of_second = run_attention_gradient<TypeParam>(config, second, other_mask, other_given, leaf_chunks);
  const std::map<std::string, std::vector<TypeParam>> of_both{
      {"query", to_host(gradient.query)},
      {"key", to_host(gradient.key)},
      {"value", to_host(gradient.value)},
      {"retrieval_query", to_host(gradient.retrieval_query)},
      {"retrieval_key", to_host(gradient.retrieval_key)},
      {"compress_weight", to_host(gradient.compress_weight)},
      {"compress_bias", to_host(gradient.compress_bias)},
      {"decompress_weight", to_host(gradient.decompress_weight)},
      {"decompress_bias", to_host(gradient.decompress_bias)},
      {"null_logit", to_host(gradient.null_logit)},
      {"retrieval_gate", to_host(gradient.retrieval_gate)}};
  for (std::size_t i = 0; i < of_first.size(); ++i) {
    const auto& [name, alone] = of_first[i];
    EXPECT_TRUE(same_bits(of_both.at(name), joined(alone, of_second[i].second), 1)) << name;
  }
}

TYPED_TEST(AttentionGradients, of_weights_must_be_those_of_whole_leaves) {
  const ModelConfig config = weighted_config();
  const auto numbers = random_attention(config, 33, 1);
  const Sequence sequence(MPI_COMM_WORLD, 1, 33, config.chunk_size);  // 7 chunks, which ranks divide as they like
  const LocalAttention<TypeParam> local(config, numbers, {}, sequence);
  const Array<TypeParam***> output("test::output", 1, sequence.local_tokens(), config.attention_dim());
  const auto attention = Attention<TypeParam>::create(config, sequence);
  AttentionRecord<TypeParam> record;
  attention->forward(Execution(), local.padding, local.input, output, nullptr, nullptr, &record);
  const auto expect_refusal = [&](std::int64_t leaf_chunks, auto&& spoil) {
    AttentionGradient<TypeParam> gradient;
    gradient.leaf_chunks = 7;
    reserve_weights(config, sequence, gradient);
    gradient.leaf_chunks = leaf_chunks;
    spoil(gradient);
    EXPECT_THROW(attention->backward(Execution(), local.padding, local.input, record, output, output, gradient), Error);
  };
  const auto as_it_is = [](auto&) {};
  expect_refusal(0, as_it_is);
  expect_refusal(3, as_it_is);  // leaves are more than there is room for, or cut by ranks
  if (world_ranks() > 1) expect_refusal(7, as_it_is);
  expect_refusal(7, [](auto& gradient) { gradient.compress_bias = {}; });
  expect_refusal(7, [](auto& gradient) { gradient.null_logit = {}; });
  expect_refusal(7, [](auto& gradient) { gradient.retrieval_gate = gradient.compress_bias; });
  expect_refusal(7, [](auto& gradient) { std::swap(gradient.compress_weight, gradient.decompress_weight); });
}

}  // namespace
}  // namespace bsbr::testing
