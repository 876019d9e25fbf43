// What is not finite, NaN or infinite, in a weight, and in the embedding of a token that the loss depends on or not.
// Runs on three ranks, of which the first 1, 2 and 3 work together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/weight_table.hpp"
#include "support/bits.hpp"
#include "support/model_gradients.hpp"
#include "support/random_model.hpp"
#include "support/reals.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t rows = 3, length = 43;  // of a batch: no row has an id of another
constexpr std::int64_t ids_of_row = 20, spoiled_id = rows * ids_of_row;

ModelConfig sizes_with(Head head) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.head = head;
  sizes.vocab_size = spoiled_id + 1;
  return sizes;
}

/// Some of this row of the embedding is not finite.
template <class Real>
Weights<Real> with_row(const ModelConfig& config, std::int64_t id, double bad) {
  auto map = random_weight_map(config, 1);
  auto& embedding = map.at("embedding.weight");
  for (std::int64_t column = 0; column < embedding.columns; column += 2) embedding(id, column) = bad;
  return to_weights<Real>(config, map);
}

/// Without the spoiled id.
Batch ordinary_batch(Padding padding) {
  Batch batch{rows, length, random_ids(rows * length, ids_of_row, 4), make_mask(padding, rows, length, 5)};
  for (std::size_t i = 0; i < batch.ids.size(); ++i) batch.ids[i] += static_cast<std::int64_t>(i) / length * ids_of_row;
  return batch;
}

std::size_t place(std::int64_t row, std::int64_t token) { return static_cast<std::size_t>(row * length + token); }

Batch with_spoiled_id(Batch batch, std::int64_t row, std::int64_t token) {
  batch.ids[place(row, token)] = spoiled_id;
  return batch;
}

template <class Number>
bool all_finite(const std::vector<Number>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](Number number) { return std::isfinite(number); });
}

/// The same numbers, with one NaN for all.
template <class Number>
std::vector<Number> with_one_nan(std::vector<Number> numbers) {
  for (Number& number : numbers) {
    if (std::isnan(number)) number = std::numeric_limits<Number>::quiet_NaN();
  }
  return numbers;
}

/// The gradient of a weight.
template <class Real>
std::vector<Real> part_of(const Weights<Real>& weights, const ComputedGradients<Real>& computed,
                          const std::string& name) {
  for (const WeightInfo& weight : weight_table(weights.config())) {
    if (weight.name == name) return rows_of(computed.gradients, 1, weights.offset(name), weight.size());
  }
  throw Error("no weight " + name);
}

/// Of the embedding, the rows of the ids of a row of the batch.
template <class Real>
std::vector<Real> of_ids(const Weights<Real>& weights, const ComputedGradients<Real>& computed, std::int64_t row) {
  const std::int64_t hidden = weights.config().hidden_dim;
  return rows_of(part_of(weights, computed, "embedding.weight"), hidden, row * ids_of_row, ids_of_row);
}

template <class Real>
class GradientOverflow : public ::testing::Test {
 protected:
  static ComputedGradients<Real> compute(const Weights<Real>& weights, const Batch& batch,
                                         MPI_Comm comm = MPI_COMM_SELF) {
    return compute_gradients(weights, comm, batch, targets_of(batch));
  }

  static void expect_same_losses(const ComputedGradients<Real>& actual, const ComputedGradients<Real>& expected) {
    EXPECT_TRUE(same_bits<double>({actual.loss}, {expected.loss}, 1));
    EXPECT_TRUE(same_bits(actual.token_losses, expected.token_losses, 1));
  }
  static void expect_same(const ComputedGradients<Real>& actual, const ComputedGradients<Real>& expected) {
    expect_same_losses(actual, expected);
    EXPECT_TRUE(same_bits(actual.gradients, expected.gradients, 1));
  }
};
TYPED_TEST_SUITE(GradientOverflow, Reals, RealNames);

TYPED_TEST(GradientOverflow, of_a_token_that_does_not_occur_changes_no_bit_and_its_gradient_is_zero) {
  if (world_ranks() > 1) return;
  const Batch batch = ordinary_batch(Padding::holes);
  for (const ModelConfig& config : variants(sizes_with(Head::separate), has_its_own_way)) {
    const auto expected = this->compute(with_row<TypeParam>(config, spoiled_id, 1), batch);
    for (const double bad : {infinity, -infinity, nan}) {
      SCOPED_TRACE(describe(config) + ", " + std::to_string(bad));
      const Weights<TypeParam> weights = with_row<TypeParam>(config, spoiled_id, bad);
      const auto actual = this->compute(weights, batch);
      EXPECT_TRUE(std::isfinite(actual.loss));
      EXPECT_TRUE(all_finite(actual.gradients));
      this->expect_same(actual, expected);
      const auto embedding = part_of(weights, actual, "embedding.weight");
      for (const TypeParam number : rows_of(embedding, config.hidden_dim, spoiled_id, 1)) EXPECT_EQ(number, 0);
    }
  }
}

TYPED_TEST(GradientOverflow, of_padding_changes_no_bit) {
  if (world_ranks() > 1) return;
  const Batch batch = ordinary_batch(Padding::holes);
  Batch spoiled = batch;
  for (std::int64_t token = 0; token < length; ++token) {
    if (batch.mask[place(1, token)] == 0) spoiled = with_spoiled_id(spoiled, 1, token);
  }
  ASSERT_NE(spoiled.ids, batch.ids);
  for (const ModelConfig& config : variants(sizes_with(Head::separate), heeds_padding)) {
    const auto expected = this->compute(with_row<TypeParam>(config, spoiled_id, 1), batch);
    for (const double bad : {infinity, nan, 0.9 * std::numeric_limits<TypeParam>::max()}) {
      SCOPED_TRACE(describe(config) + ", " + std::to_string(bad));
      this->expect_same(this->compute(with_row<TypeParam>(config, spoiled_id, bad), spoiled), expected);
    }
  }
}

TYPED_TEST(GradientOverflow, of_a_token_that_no_loss_depends_on_changes_no_loss) {
  if (world_ranks() > 1) return;
  const Batch batch = ordinary_batch(Padding::none);
  for (const ModelConfig& config : variants(sizes_with(Head::separate), is_causal)) {
    SCOPED_TRACE(describe(config));
    const Batch spoiled = with_spoiled_id(batch, 1, length - 1);  // its own target is none, but it is one
    const Weights<TypeParam> weights = with_row<TypeParam>(config, spoiled_id, nan);
    const auto expected = this->compute(with_row<TypeParam>(config, spoiled_id, 1), spoiled),
               actual = this->compute(weights, spoiled);
    this->expect_same_losses(actual, expected);
    for (const std::int64_t row : {0, 2})
      EXPECT_TRUE(same_bits(of_ids(weights, actual, row), of_ids(weights, expected, row), 1));
  }
}

TYPED_TEST(GradientOverflow, of_a_token_stays_in_its_row_of_the_batch_but_for_sums_over_all_rows) {
  if (world_ranks() > 1) return;
  for (const Padding padding : {Padding::none, Padding::holes}) {
    const Batch batch = ordinary_batch(padding);
    std::int64_t token = 17;
    while (!batch.mask.empty() && batch.mask[place(1, token)] * batch.mask[place(1, token + 1)] == 0) ++token;
    const Batch spoiled = with_spoiled_id(batch, 1, token);
    for (const ModelConfig& config : variants(sizes_with(Head::separate), has_its_own_way)) {
      SCOPED_TRACE(describe(config) + ", padding " + std::to_string(static_cast<int>(padding)));
      const Weights<TypeParam> weights = with_row<TypeParam>(config, spoiled_id, nan);
      const auto expected = this->compute(with_row<TypeParam>(config, spoiled_id, 1), spoiled),
                 actual = this->compute(weights, spoiled);
      EXPECT_TRUE(std::isnan(actual.loss));
      for (const std::int64_t row : {0, 2}) {
        EXPECT_TRUE(
            same_bits(rows_of(actual.token_losses, length, row, 1), rows_of(expected.token_losses, length, row, 1), 1));
        EXPECT_TRUE(all_finite(of_ids(weights, actual, row)));
        EXPECT_TRUE(same_bits(of_ids(weights, actual, row), of_ids(weights, expected, row), 1));
      }
      EXPECT_FALSE(all_finite(part_of(weights, actual, "layers.0.layer_norm1.weight")));
      EXPECT_FALSE(all_finite(part_of(weights, actual, "layer_norm.bias")));
      const auto embedding = part_of(weights, actual, "embedding.weight");
      EXPECT_FALSE(all_finite(rows_of(embedding, config.hidden_dim, spoiled_id, 1)));
    }
  }
}

/// A tied head has logits of all rows of the embedding.
TYPED_TEST(GradientOverflow, of_any_weight_is_told_by_the_loss_and_gives_the_same_on_any_number_of_ranks) {
  const Batch batch = ordinary_batch(Padding::none);
  for (const ModelConfig& config : variants(sizes_with(Head::tied), has_its_own_way)) {
    for (const std::string name : {"embedding.weight", "layers.0.layer_norm1.weight", "layers.1.ff.3.bias",
                                   "layers.1.attention.out_proj.weight", "layer_norm.bias"}) {
      for (const double bad : {infinity, nan}) {
        SCOPED_TRACE(describe(config) + ", " + std::to_string(bad) + " in " + name);
        auto map = random_weight_map(config, 1);
        map.at(name).values.back() = bad;
        const Weights<TypeParam> weights = to_weights<TypeParam>(config, map);
        const auto alone = this->compute(weights, batch);
        EXPECT_FALSE(std::isfinite(alone.loss));
        EXPECT_FALSE(all_finite(alone.gradients));
        for (const int count : {2, 3}) {
          const FirstRanks ranks(count);
          if (!ranks.has_this()) continue;
          const auto together = this->compute(weights, batch, ranks.comm());
          EXPECT_TRUE(same_bits(with_one_nan(together.token_losses), with_one_nan(alone.token_losses), 1));
          EXPECT_TRUE(same_bits(with_one_nan(together.gradients), with_one_nan(alone.gradients), 1));
        }
      }
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
