// Dropout in training: losses and gradients of the reference with the same numbers dropped, others in every step, and
// none where nothing is to be dropped. That ranks, micro-batches, recomputation and a resume change no bit with it:
// test_trainer.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "bsbr/error.hpp"
#include "bsbr/training.hpp"
#include "support/bits.hpp"
#include "support/compare.hpp"
#include "support/device_arrays.hpp"
#include "support/dropout.hpp"
#include "support/model_gradients.hpp"
#include "support/reals.hpp"
#include "support/training.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

using reference::DropoutPlace;
using reference::WeightMap;

template <class Real>
struct LossAndGradient {
  double loss;
  std::vector<Real> gradients;  // in the places of the weights

  /// [rows, columns] of a weight, whose extents are those of `like`.
  reference::Matrix of(const Weights<Real>& weights, const std::string& name, const reference::Matrix& like) const {
    reference::Matrix matrix = zeros_like(like);
    std::copy_n(gradients.begin() + weights.offset(name), matrix.values.size(), matrix.values.begin());
    return matrix;
  }
};

/// Those of a batch at some step of training, with these weights. The first moments are the gradients, since beta1 is
/// 0, and nothing is clipped.
template <class Real>
LossAndGradient<Real> of_step(const Weights<Real>& weights, const Batch& batch, std::int64_t accumulate,
                              const StepDropout& dropout, Recompute recompute = Recompute::all) {
  const ModelConfig& config = weights.config();
  const TrainingGrid grid(MPI_COMM_WORLD,
                          {.length = batch.length, .batch = batch.batch / accumulate, .accumulate = accumulate},
                          config.chunk_size);
  const TrainingOptions options{.optimizer = {.beta1 = 0},
                                .learning_rate = {},
                                .clip = 0,
                                .recompute = recompute,
                                .dropout = dropout.probability,
                                .seed = dropout.seed};
  Trainer<Real> trainer(weights, grid, options);
  trainer.resume(dropout.step - 1);
  const TrainingStep step = take_step(trainer, grid, batch);
  EXPECT_EQ(step.step, dropout.step);
  return {step.loss.loss, of_all_ranks(trainer, &OwnedWeights<Real>::first_moments)};
}

/// Some sequences, of which every token counts but each last one.
Batch whole_batch(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  return random_batch(config, batch, length, 5);
}

template <class Real>
class TrainingDropout : public ::testing::Test {};
TYPED_TEST_SUITE(TrainingDropout, Reals, RealNames);

TYPED_TEST(TrainingDropout, has_the_loss_and_the_gradients_of_the_reference) {
  const StepDropout dropout{0.3, 0x123456789abcdef, 5};
  for (const ModelConfig& config : variants(gradient_config(Head::tied))) {
    for (const Recompute recompute : {Recompute::all, Recompute::none}) {
      if (recompute == Recompute::none && !has_its_own_way(config)) continue;
      SCOPED_TRACE(describe(config));
      const Batch batch = random_batch(config, 4, 38, 5, Padding::holes);
      const WeightMap map = random_weight_map(config, 1);
      const Weights<TypeParam> weights = to_weights<TypeParam>(config, map);
      const auto expected = reference::loss_and_gradients(
          config, map, {batch.length, batch.ids, targets_of(batch), batch.mask, dropout.of_sequences(batch.batch)});
      const auto actual = of_step(weights, batch, 2, dropout, recompute);
      EXPECT_NEAR(actual.loss, expected.loss.mean, 1e-4 * expected.loss.mean);
      double largest = 0;
      for (const auto& [name, gradient] : expected.gradients)
        largest = std::max(largest, largest_magnitude(gradient.values));
      for (const auto& [name, gradient] : expected.gradients) {
        EXPECT_TRUE(
            all_close(actual.of(weights, name, gradient), gradient, (sizeof(TypeParam) == 4 ? 2e-4 : 1e-9) * largest))
            << name;
      }
    }
  }
}

TYPED_TEST(TrainingDropout, of_probability_0_is_a_pass_without_dropout_bit_for_bit) {
  for (const ModelConfig& config : variants(gradient_config(Head::separate), has_its_own_way)) {
    const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
    const Batch batch = random_batch(config, 2, 47, 5, Padding::holes);
    const auto expected = compute_gradients(weights, MPI_COMM_WORLD, batch, targets_of(batch));
    const auto none = of_step(weights, batch, 2, {0, 9, 4}), some = of_step(weights, batch, 2, {0.01, 9, 4});
    EXPECT_EQ(none.loss, expected.loss) << describe(config);
    EXPECT_TRUE(same_bits(none.gradients, expected.gradients, 1)) << describe(config);
    EXPECT_NE(some.loss, expected.loss) << describe(config);
  }
}

TYPED_TEST(TrainingDropout, is_another_one_in_each_step_and_for_each_seed_but_the_same_one_again) {
  const ModelConfig config = gradient_config(Head::tied);
  const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
  const Batch batch = whole_batch(config, 2, 20);
  std::set<double> losses;
  for (int again = 0; again < 2; ++again) {
    for (const std::uint64_t seed : {1, 2}) {
      for (const std::int64_t step : {1, 2, 1000000}) losses.insert(of_step(weights, batch, 1, {0.2, seed, step}).loss);
    }
  }
  EXPECT_EQ(losses.size(), 6u);
}

/// Sequences of the same tokens differ in what is dropped only.
TYPED_TEST(TrainingDropout, is_another_one_in_each_sequence_of_a_step) {
  const ModelConfig config = gradient_config(Head::tied);
  const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
  const Batch one = whole_batch(config, 1, 20);
  Batch both = one;
  both.batch = 2;
  both.ids.insert(both.ids.end(), one.ids.begin(), one.ids.end());
  const double of_one = of_step(weights, one, 1, {0.2, 1, 1}).loss;
  for (const std::int64_t accumulate : {1, 2}) EXPECT_NE(of_step(weights, both, accumulate, {0.2, 1, 1}).loss, of_one);
  for (const std::int64_t accumulate : {1, 2})
    EXPECT_NEAR(of_step(weights, both, accumulate, {0, 1, 1}).loss, of_step(weights, one, 1, {0, 1, 1}).loss, 1e-5);
}

/// What is dropped at every token has no gradient: not of the column's weights, nor of its bias.
TYPED_TEST(TrainingDropout, leaves_no_gradient_of_a_column_that_is_dropped_at_every_token) {
  const StepDropout dropout{0.8, 3, 2};
  for (const ModelConfig& config : variants(gradient_config(Head::separate), has_its_own_way)) {
    SCOPED_TRACE(describe(config));
    const WeightMap map = random_weight_map(config, 1);
    const Weights<TypeParam> weights = to_weights<TypeParam>(config, map);
    const Batch batch = whole_batch(config, 1, 5);
    const auto step = of_step(weights, batch, 1, dropout);
    int dropped = 0;
    for (const auto& [place, module] :
         {std::pair{DropoutPlace::attention, "attention.out_proj"}, {DropoutPlace::feed_forward, "ff.3"}}) {
      for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
        const std::string name = "layers." + std::to_string(layer) + "." + module;
        const reference::Matrix bias = step.of(weights, name + ".bias", map.at(name + ".bias")),
                                weight = step.of(weights, name + ".weight", map.at(name + ".weight"));
        EXPECT_GT(largest_magnitude(weight.values), 0) << name;
        for (std::int64_t column = 0; column < config.hidden_dim; ++column) {
          bool kept = false;
          for (std::int64_t token = 0; token < batch.length; ++token)
            kept = kept || dropout.keeps(place, layer, 0, token, column);
          if (kept) continue;
          ++dropped;
          EXPECT_EQ(bias(0, column), 0) << name << " " << column;
          for (std::int64_t i = 0; i < weight.columns; ++i) EXPECT_EQ(weight(column, i), 0) << name << " " << column;
        }
      }
    }
    EXPECT_GT(dropped, 4 * config.hidden_dim / 5);  // of 0.8⁵ = a third of 4 · hidden_dim
  }
}

/// Tokens with an id each: the gradient of an element of the embedding is 0 where it was dropped.
TYPED_TEST(TrainingDropout, drops_the_share_of_the_embedding_that_it_should) {
  constexpr std::int64_t length = 300;
  ModelConfig config = gradient_config(Head::separate);
  config.vocab_size = length;
  const WeightMap map = random_weight_map(config, 1);
  const Weights<TypeParam> weights = to_weights<TypeParam>(config, map);
  Batch batch{1, length, std::vector<std::int64_t>(length), {}};
  std::iota(batch.ids.begin(), batch.ids.end(), 0);
  for (const double p : {0.1, 0.5}) {
    const auto gradient =
        of_step(weights, batch, 1, {p, 11, 3}).of(weights, "embedding.weight", map.at("embedding.weight"));
    const std::int64_t elements = (length - 1) * config.hidden_dim;  // of tokens before which there is something
    const double zeros =
        static_cast<double>(std::count(gradient.values.begin(), gradient.values.begin() + elements, 0));
    const auto count = static_cast<double>(elements);
    EXPECT_NEAR(zeros / count, p, 4 * std::sqrt(p * (1 - p) / count));
  }
}

TEST(WrongDropout, is_refused) {
  const ModelConfig config = gradient_config(Head::tied);
  const TrainingGrid grid(MPI_COMM_WORLD, {.length = 10}, config.chunk_size);
  for (const double wrong : {-0.1, 1.0, std::nan("")}) {
    TrainingOptions options;
    options.dropout = wrong;
    EXPECT_THROW(Trainer<float>(Weights<float>(config), grid, options), ConfigError) << wrong;
  }
}

}  // namespace
}  // namespace bsbr::testing
