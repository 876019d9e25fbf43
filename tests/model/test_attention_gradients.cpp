// Gradients of attentions on Views, against the reference, alone and across ranks.
#include <gtest/gtest.h>

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

bool is_done(const ModelConfig& config) {
  return config.architecture != Architecture::bsbr || config.compression_factor == 0;
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
                                                                {"retrieval_key", &expected.retrieval_key}};
  // Some gradients are 0 but for rounding, as those of a softmax over one key: of the largest element of all.
  double most = 0;
  for (const auto& [name, exact] : by_name) most = std::max(most, largest(exact->values));
  const double tolerance = (std::is_same_v<Real, float> ? 2e-5 : 1e-12) * most;
  for (const auto& [name, gradient] : run_attention_gradient<Real>(config, numbers, mask, given)) {
    const std::vector<double>& exact = by_name.at(name)->values;
    ASSERT_EQ(gradient.size(), exact.size()) << name;
    EXPECT_LE(largest_difference(widen(gradient), exact), tolerance) << name;
  }
}

TYPED_TEST(AttentionGradients, are_those_of_the_reference) {
  for (const ModelConfig& variant : variants(sizes(), is_done)) {
    for (const std::int64_t length : {1, 2, 5, 6, 33, 150}) {
      expect_right<TypeParam>(variant, length, {}, 1);
      expect_right<TypeParam>(variant, length, random_mask(length, 0.3, 2), 3);
      expect_right<TypeParam>(variant, length, random_mask(length, 0.9, 2), 4);
    }
  }
}

TYPED_TEST(AttentionGradients, of_wide_heads_and_long_chunks_are_those_of_the_reference) {
  ModelConfig config = sizes();
  config.num_heads = 1;
  config.hidden_dim = 50;  // 2,500 elements of a state are five blocks
  config.chunk_size = 70;
  for (const ModelConfig& variant : variants(config, is_done)) {
    expect_right<TypeParam>(variant, 331, {}, 1);
    expect_right<TypeParam>(variant, 331, random_mask(331, 0.3, 2), 3);
  }
}

TYPED_TEST(AttentionGradients, have_the_same_bits_on_any_number_of_ranks) {
  ModelConfig wide = sizes();
  wide.num_heads = 1;
  wide.hidden_dim = 50;
  for (const ModelConfig& config : {sizes(), wide}) {
    for (const ModelConfig& variant : variants(config, is_done)) {
      for (const std::int64_t length : {1, 33, 331}) {
        for (const auto& mask : {reference::Mask(), random_mask(length, 0.5, 2)}) {
          SCOPED_TRACE(describe(variant) + ", " + std::to_string(length) + " tokens");
          const auto numbers = random_attention(variant, length, 1);
          const auto given = random_float_matrix(length, variant.attention_dim(), 51);
          const auto alone = run_attention_gradient<TypeParam>(variant, numbers, mask, given);
          for (int count = 2; count <= world_ranks(); ++count) {
            const FirstRanks ranks(count);
            if (!ranks.has_this()) continue;
            const auto together = run_attention_gradient<TypeParam>(variant, numbers, mask, given, ranks.comm());
            ASSERT_EQ(together.size(), alone.size());
            for (std::size_t i = 0; i < alone.size(); ++i) {
              EXPECT_TRUE(same_bits(together[i].second, alone[i].second, variant.attention_dim()))
                  << alone[i].first << " on " << count << " ranks";
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
