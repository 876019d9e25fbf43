// Losses and gradients of whole models: against central differences, and what holds of them exactly.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <stdexcept>

#include "config/splitmix64.hpp"
#include "reference/central_differences.hpp"
#include "support/random_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

using reference::Batch;
using reference::Mask;
using reference::Matrix;
using reference::WeightMap;

/// D = 6, 2 heads of width 3, 2 layers, chunks of 3 tokens; compressed states have 3 elements.
std::vector<ModelConfig> small_variants() {
  ModelConfig sizes;
  sizes.vocab_size = 5;
  sizes.hidden_dim = 6;
  sizes.num_layers = 2;
  sizes.num_heads = 2;
  sizes.ff_dim = 4;
  sizes.chunk_size = 3;
  sizes.compression_factor = 2;
  sizes.head = Head::tied;
  return variants(sizes);
}

Batch random_batch(const ModelConfig& config, std::int64_t rows, std::int64_t length, Mask mask, std::uint64_t seed) {
  Batch batch{length, random_ids(rows * length, config.vocab_size, seed), {}, std::move(mask)};
  batch.targets = reference::next_tokens(batch.ids, batch.mask, length);
  return batch;
}

/// Holes; the third and fourth chunk of seven tokens or more, so that several chunks take r from the second; all
/// tokens.
Mask mask_of_three_rows(std::int64_t length, std::int64_t chunk_size) {
  Mask mask = random_mask(length, 0.3, 5);
  for (std::int64_t t = 0; t < length; ++t) mask.push_back(t < 2 * chunk_size || t >= 4 * chunk_size);
  mask.resize(static_cast<std::size_t>(3 * length), 0);
  return mask;
}

/// The derivative of the loss with respect to every stride-th element of every weight.
void expect_central_differences(const ModelConfig& config, const Batch& batch, std::size_t stride = 1) {
  WeightMap weights = random_weight_map(config, 3);
  const auto result = reference::loss_and_gradients(config, weights, batch);
  EXPECT_EQ(result.gradients.size(), weights.size());
  for (auto& [name, weight] : weights) {
    const Matrix& gradient = result.gradients.at(name);
    const double tolerance = difference_tolerance * std::max(1.0, largest_magnitude(gradient));
    for (std::size_t i = 0; i < weight.values.size(); i += stride) {
      const double expected = derivative(
          weight.values[i], [&] { return reference::loss(config, weights, batch).mean; }, difference_step);
      EXPECT_NEAR(gradient.values[i], expected, tolerance) << name << " " << i;
    }
  }
}

// ---- Parts ----------------------------------------------------------------------------------------------------------

TEST(Gradient, of_gelu_is_that_of_central_differences) {
  for (double z : {-40.0, -3.0, -0.7, 0.0, 1e-3, 0.5, 2.0, 40.0}) {
    const double expected = derivative(
        z, [&] { return reference::gelu(z); }, difference_step);
    EXPECT_NEAR(reference::gelu_gradient(z), expected, difference_tolerance) << z;
  }
}

TEST(Gradient, of_rows_is_that_of_central_differences) {
  Matrix x = random_matrix(4, 5, 1), scale = random_matrix(1, 5, 2), shift = random_matrix(1, 5, 3);
  Matrix weight = random_matrix(3, 5, 4), bias = random_matrix(1, 3, 5);
  const Matrix dnorm = random_matrix(4, 5, 6), dlinear = random_matrix(4, 3, 7);
  const auto weighted = [](const Matrix& y, const Matrix& dy) {
    return std::inner_product(y.values.begin(), y.values.end(), dy.values.begin(), 0.0);
  };
  const auto norm = [&] { return weighted(reference::layer_norm(x, scale, shift), dnorm); };
  const auto linear = [&] { return weighted(reference::linear(x, weight, bias), dlinear); };

  Matrix dscale(1, 5), dshift(1, 5), dweight(3, 5), dbias(1, 3);
  const Matrix dx_of_norm = reference::layer_norm_gradient(x, scale, dnorm, dscale, dshift);
  const Matrix dx_of_linear = reference::linear_gradient(x, weight, dlinear, dweight, dbias);
  EXPECT_TRUE(agrees_with_differences(dx_of_norm, derivatives(x, norm)));
  EXPECT_TRUE(agrees_with_differences(dscale, derivatives(scale, norm)));
  EXPECT_TRUE(agrees_with_differences(dshift, derivatives(shift, norm)));
  EXPECT_TRUE(agrees_with_differences(dx_of_linear, derivatives(x, linear)));
  EXPECT_TRUE(agrees_with_differences(dweight, derivatives(weight, linear)));
  EXPECT_TRUE(agrees_with_differences(dbias, derivatives(bias, linear)));
}

TEST(Loss, targets_are_the_next_ids_of_each_sequence_but_where_padding_is) {
  const std::vector<std::int64_t> ids{3, 1, 4, 1, 5, 9};
  EXPECT_EQ(reference::next_tokens(ids, {}, 3), (std::vector<std::int64_t>{1, 4, -1, 5, 9, -1}));
  EXPECT_EQ(reference::next_tokens(ids, {}, 6), (std::vector<std::int64_t>{1, 4, 1, 5, 9, -1}));
  EXPECT_EQ(reference::next_tokens(ids, {1, 1, 0, 1, 1, 1}, 6), (std::vector<std::int64_t>{1, -1, -1, 5, 9, -1}));
  EXPECT_EQ(reference::next_tokens(ids, {}, 1), std::vector<std::int64_t>(6, -1));
}

TEST(Loss, of_equal_logits_is_the_logarithm_of_the_vocabulary) {
  auto config = small_config(Architecture::bsbr);
  config.head = Head::separate;
  auto weights = random_weight_map(config, 1);
  weights.at("lm_head.weight") = zeros_like(weights.at("lm_head.weight"));
  const auto result = reference::loss_and_gradients(config, weights, random_batch(config, 1, 9, {}, 2));
  EXPECT_EQ(result.loss.counted, 8);
  EXPECT_NEAR(result.loss.mean, std::log(config.vocab_size), 1e-14);
  EXPECT_EQ(largest_magnitude(result.gradients.at("embedding.weight")), 0);  // logits say nothing of y
  EXPECT_GT(largest_magnitude(result.gradients.at("lm_head.weight")), 0);
}

TEST(Loss, of_far_logits_is_finite) {
  auto config = small_config(Architecture::standard);
  config.head = Head::separate;
  auto weights = random_weight_map(config, 1);
  for (double& value : weights.at("lm_head.weight").values) value *= 1e6;
  const auto result = reference::loss_and_gradients(config, weights, random_batch(config, 1, 9, {}, 2));
  EXPECT_TRUE(std::isfinite(result.loss.mean));
  EXPECT_GT(result.loss.mean, 1e5);
  for (const auto& [name, gradient] : result.gradients) EXPECT_TRUE(std::isfinite(largest_magnitude(gradient))) << name;
}

// ---- Whole models ---------------------------------------------------------------------------------------------------

class Gradients : public ::testing::TestWithParam<ModelConfig> {};

TEST_P(Gradients, are_those_of_central_differences) {
  expect_central_differences(GetParam(), random_batch(GetParam(), 1, 8, {}, 7));
}

TEST_P(Gradients, with_padding_and_a_head_of_its_own_are_those_of_central_differences) {
  ModelConfig config = GetParam();
  config.head = Head::separate;
  const Mask mask = mask_of_three_rows(17, config.chunk_size);
  expect_central_differences(config, random_batch(config, 3, 17, mask, 8), 7);
}

/// Half of the numbers are dropped, everywhere others: some function of where they are.
reference::Dropout some_dropout(std::int64_t sequence) {
  return [=](reference::DropoutPlace place, std::int64_t layer, std::int64_t token, std::int64_t column) {
    const std::int64_t places = 3 * layer + static_cast<std::int64_t>(place);
    const std::int64_t number = ((sequence * 6 + places) * 20 + token) * 10 + column;
    return splitmix64(static_cast<std::uint64_t>(number)) % 2 == 0 ? 0.0 : 2.0;
  };
}

TEST_P(Gradients, with_dropout_are_those_of_central_differences) {
  Batch batch = random_batch(GetParam(), 2, 8, {}, 7);
  batch.dropout = {some_dropout(0), some_dropout(1)};
  expect_central_differences(GetParam(), batch, 5);
}

TEST_P(Gradients, are_zero_where_nothing_counts) {
  const ModelConfig config = GetParam();
  const auto weights = random_weight_map(config, 3);
  for (const Batch& batch : {random_batch(config, 1, 0, {}, 1), random_batch(config, 2, 1, {}, 1),
                             random_batch(config, 2, 8, Mask(16, 0), 1)}) {
    const auto result = reference::loss_and_gradients(config, weights, batch);
    EXPECT_EQ(result.loss.counted, 0);
    EXPECT_EQ(result.loss.mean, 0);
    for (const auto& [name, gradient] : result.gradients) {
      EXPECT_TRUE(all_close(gradient, zeros_like(weights.at(name)), 0)) << name;
    }
  }
}

TEST_P(Gradients, of_a_batch_are_the_means_of_its_sequences) {
  const ModelConfig config = GetParam();
  const auto weights = random_weight_map(config, 3);
  const std::int64_t length = 17;
  const Batch whole = random_batch(config, 3, length, mask_of_three_rows(length, config.chunk_size), 8);
  const auto expected = reference::loss_and_gradients(config, weights, whole);
  WeightMap sums;
  for (const auto& [name, weight] : weights) sums[name] = zeros_like(weight);
  for (std::int64_t row = 0; row < whole.rows(); ++row) {
    const auto rows = [&](const auto& values) {
      return std::remove_cvref_t<decltype(values)>(values.begin() + row * length, values.begin() + (row + 1) * length);
    };
    const Batch alone{length, rows(whole.ids), rows(whole.targets), rows(whole.mask)};
    const auto part = reference::loss_and_gradients(config, weights, alone);
    const double share = static_cast<double>(part.loss.counted) / static_cast<double>(expected.loss.counted);
    for (auto& [name, sum] : sums) {
      for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += share * part.gradients.at(name).values[i];
    }
  }
  for (const auto& [name, sum] : sums) {
    const Matrix& gradient = expected.gradients.at(name);
    EXPECT_TRUE(all_close(gradient, sum, 1e-13 * std::max(1.0, largest_magnitude(sum)))) << name;
  }
}

TEST_P(Gradients, do_not_depend_on_what_is_masked) {
  const ModelConfig config = GetParam();
  if (!heeds_padding(config)) return;
  const auto weights = random_weight_map(config, 3);
  Batch batch = random_batch(config, 3, 17, mask_of_three_rows(17, config.chunk_size), 8);
  const auto before = reference::loss_and_gradients(config, weights, batch);
  for (std::size_t t = 0; t < batch.ids.size(); ++t) {
    if (batch.mask[t] == 0) batch.ids[t] = (batch.ids[t] + 2) % config.vocab_size;
  }
  const auto after = reference::loss_and_gradients(config, weights, batch);
  EXPECT_EQ(after.loss.mean, before.loss.mean);
  for (const auto& [name, gradient] : before.gradients) {
    EXPECT_TRUE(all_close(after.gradients.at(name), gradient, 0)) << name;
  }
}

TEST_P(Gradients, of_a_tokens_loss_do_not_reach_later_tokens) {
  ModelConfig config = GetParam();
  if (!is_causal(config)) return;
  const std::int64_t length = config.vocab_size = 11;  // each token has its own row of the embedding
  config.head = Head::separate;
  const auto weights = random_weight_map(config, 3);
  Batch batch{length, std::vector<std::int64_t>(static_cast<std::size_t>(length)), {}, {}};
  std::iota(batch.ids.begin(), batch.ids.end(), 0);
  for (std::int64_t t = 0; t < length; ++t) {
    batch.targets.assign(batch.ids.size(), -1);
    batch.targets[static_cast<std::size_t>(t)] = 3;
    const auto gradient = reference::loss_and_gradients(config, weights, batch).gradients.at("embedding.weight");
    for (std::int64_t s = 0; s < length; ++s) {
      for (std::int64_t column = 0; column < config.hidden_dim; ++column) {
        EXPECT_TRUE(s <= t || gradient(s, column) == 0) << s << " of " << t;
        EXPECT_TRUE(s != t || gradient(s, column) != 0) << t;
      }
    }
  }
}

TEST_P(Gradients, of_batches_that_do_not_fit_are_refused) {
  ModelConfig config = GetParam();
  const auto weights = random_weight_map(config, 3);
  const Batch good = random_batch(config, 2, 8, Mask(16, 1), 1);
  const auto expect_refused = [&](const Batch& batch) {
    EXPECT_THROW(reference::loss_and_gradients(config, weights, batch), std::invalid_argument);
  };
  Batch bad = good;
  bad.length = 7;
  expect_refused(bad);
  bad = good, bad.targets.pop_back();
  expect_refused(bad);
  bad = good, bad.mask.pop_back();
  expect_refused(bad);
  for (const std::int64_t target : {std::int64_t{-2}, config.vocab_size}) {
    bad = good, bad.targets[3] = target;
    expect_refused(bad);
  }
  config.head = Head::separate;  // whose weight is not there
  expect_refused(good);
  config.head = Head::none;
  expect_refused(good);
}

INSTANTIATE_TEST_SUITE_P(Variants, Gradients, ::testing::ValuesIn(small_variants()),
                         [](const auto& test) { return variant_name(test.param); });

/// Two layers of D = 12 with 31 ids, 23 tokens in chunks of 5: every 37th element of each weight.
class GradientsOfLargerModels : public ::testing::TestWithParam<Architecture> {};

TEST_P(GradientsOfLargerModels, are_those_of_central_differences) {
  auto config = small_config(GetParam());
  config.head = Head::tied;
  config.compression_factor = 3;
  config.feature_map = FeatureMap::elu;
  expect_central_differences(config, random_batch(config, 2, 23, {}, 9), 37);
}

std::vector<Architecture> all_architectures() {
  std::vector<Architecture> all;
  for (const auto& entry : architectures) all.push_back(entry.value);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Architectures, GradientsOfLargerModels, ::testing::ValuesIn(all_architectures()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace bsbr::testing
