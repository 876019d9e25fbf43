// What holds of gradients whatever the numbers are: causality, padding, batches, equivalent architectures.
#include <gtest/gtest.h>

#include <numeric>

#include "config/weight_table.hpp"
#include "support/bits.hpp"
#include "support/model_gradients.hpp"
#include "support/random_model.hpp"
#include "support/reals.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

ModelConfig sizes_with(Head head) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.head = head;
  sizes.vocab_size = 60;
  return sizes;
}

template <class Real>
Weights<Real> weights_of(const ModelConfig& config) {
  return to_weights<Real>(config, random_weight_map(config, 1));
}

/// The gradient of one weight, of all.
template <class Real>
std::vector<Real> gradient_of(const Weights<Real>& weights, const std::vector<Real>& gradients,
                              const std::string& name) {
  for (const WeightInfo& weight : weight_table(weights.config())) {
    if (weight.name != name) continue;
    const auto first = gradients.begin() + static_cast<std::ptrdiff_t>(weights.offset(name));
    return {first, first + static_cast<std::ptrdiff_t>(weight.size())};
  }
  throw Error("no weight " + name);
}

template <class Real>
bool is_zero(const std::vector<Real>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](Real number) { return number == 0; });
}

template <class Real>
class GradientProperties : public ::testing::Test {};
TYPED_TEST_SUITE(GradientProperties, Reals, RealNames);

/// Each token has an id of its own, so that its embedding's gradient is that of the token.
TYPED_TEST(GradientProperties, of_a_loss_are_zero_for_the_embeddings_of_later_tokens) {
  for (const ModelConfig& config : variants(sizes_with(Head::separate), is_causal)) {
    const Weights<TypeParam> weights = weights_of<TypeParam>(config);
    constexpr std::int64_t length = 33;
    Batch batch = random_batch(config, 1, length, 3);
    std::iota(batch.ids.begin(), batch.ids.end(), 0);
    for (const std::int64_t t : {0, 4, 17, 32}) {
      std::vector<std::int64_t> targets(length, no_target);
      targets[static_cast<std::size_t>(t)] = 7;
      const auto gradients = compute_gradients(weights, MPI_COMM_SELF, batch, targets).gradients;
      const auto embedding = gradient_of(weights, gradients, "embedding.weight");
      for (std::int64_t s = t + 1; s < length; ++s) {
        EXPECT_TRUE(is_zero(rows_of(embedding, config.hidden_dim, s, 1)))
            << describe(config) << ": the loss at " << t << " depends on the token at " << s;
      }
      EXPECT_FALSE(is_zero(rows_of(embedding, config.hidden_dim, t, 1))) << describe(config) << ", token " << t;
    }
  }
}

TYPED_TEST(GradientProperties, do_not_depend_on_what_is_padding) {
  for (const ModelConfig& config : variants(sizes_with(Head::tied), heeds_padding)) {
    const Weights<TypeParam> weights = weights_of<TypeParam>(config);
    const Batch batch = random_batch(config, 2, 43, 3, Padding::holes);
    Batch other = batch;
    for (std::size_t t = 0; t < batch.ids.size(); ++t) {
      if (batch.mask[t] == 0) other.ids[t] = (batch.ids[t] + 1) % config.vocab_size;
    }
    const auto expected = compute_gradients(weights, MPI_COMM_SELF, batch, targets_of(batch)),
               actual = compute_gradients(weights, MPI_COMM_SELF, other, targets_of(other));
    EXPECT_EQ(actual.loss, expected.loss) << describe(config);
    EXPECT_TRUE(same_bits(actual.gradients, expected.gradients, 1)) << describe(config);
  }
}

/// A sequence that counts no position adds zeros, whatever its tokens are.
TYPED_TEST(GradientProperties, do_not_depend_on_other_sequences_of_the_batch) {
  for (const ModelConfig& config : variants(sizes_with(Head::tied), has_its_own_way)) {
    const Weights<TypeParam> weights = weights_of<TypeParam>(config);
    const Batch batch = random_batch(config, 2, 43, 3, Padding::holes);
    std::vector<std::int64_t> targets = targets_of(batch);
    std::fill(targets.begin() + 43, targets.end(), no_target);
    const auto together = compute_gradients(weights, MPI_COMM_SELF, batch, targets),
               alone = compute_gradients(weights, MPI_COMM_SELF, batch.row(0), targets_of(batch.row(0)));
    EXPECT_EQ(together.loss, alone.loss) << describe(config);
    EXPECT_EQ(together.gradients, alone.gradients) << describe(config);
  }
}

/// Its weight is 1 whatever r and h are, unless it may retrieve nothing.
TYPED_TEST(GradientProperties, of_retrieval_vectors_are_zero_where_a_chunk_has_one_source) {
  ModelConfig sizes = sizes_with(Head::separate);
  for (const ModelConfig& config : variants_of(Architecture::bsbr, sizes)) {
    if (config.causality != Causality::causal || has_null_chunk(config)) continue;
    const Weights<TypeParam> weights = weights_of<TypeParam>(config);
    const auto of_length = [&](std::int64_t length) {
      const Batch batch = random_batch(config, 1, length, 3);
      const auto gradients = compute_gradients(weights, MPI_COMM_SELF, batch, targets_of(batch)).gradients;
      std::vector<TypeParam> found;
      for (const char* name : {"meta_r_proj.weight", "meta_r_proj.bias", "meta_h_proj.weight", "meta_h_proj.bias"}) {
        const auto one = gradient_of(weights, gradients, std::string("layers.0.attention.") + name);
        found.insert(found.end(), one.begin(), one.end());
      }
      return found;
    };
    EXPECT_TRUE(is_zero(of_length(2 * config.chunk_size))) << describe(config);
    EXPECT_FALSE(is_zero(of_length(3 * config.chunk_size))) << describe(config);
  }
}

// ---- In double precision --------------------------------------------------------------------------------------------

/// Gradients of the weights that both have are the same but for rounding, 1e-11 of the largest. `one` has all weights
/// of `other`.
void expect_same_gradients(const ModelConfig& one, const ModelConfig& other, std::int64_t length) {
  const Batch batch = random_batch(one, 2, length, 3, Padding::holes);
  const reference::WeightMap map = random_weight_map(one, 1);
  reference::WeightMap of_other;
  for (const WeightInfo& weight : weight_table(other)) of_other[weight.name] = map.at(weight.name);
  const Weights<double> weights_one = to_weights<double>(one, map), weights_other = to_weights<double>(other, of_other);
  const auto gradients_one = compute_gradients(weights_one, MPI_COMM_SELF, batch, targets_of(batch)),
             gradients_other = compute_gradients(weights_other, MPI_COMM_SELF, batch, targets_of(batch));
  SCOPED_TRACE(describe(one) + " and " + describe(other));
  EXPECT_NEAR(gradients_one.loss, gradients_other.loss, 1e-12 * gradients_one.loss);
  for (const WeightInfo& weight : weight_table(other)) {
    const auto expected = gradient_of(weights_other, gradients_other.gradients, weight.name),
               actual = gradient_of(weights_one, gradients_one.gradients, weight.name);
    double largest = 0, most = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      most = std::max(most, std::abs(expected[i] - actual[i]));
    }
    EXPECT_LE(most, 1e-11 * largest + 1e-14) << weight.name;
  }
}

TEST(GradientEquivalence, of_windows_that_reach_back_to_the_first_token_and_standard) {
  const ModelConfig sizes = sizes_with(Head::tied), standard = variants_of(Architecture::standard, sizes).front();
  for (ModelConfig config : variants_of(Architecture::sliding_window, sizes)) {
    config.window_size = 43;
    expect_same_gradients(config, standard, 43);
  }
}

TEST(GradientEquivalence, of_hopfield_at_temperature_1_and_standard) {
  const ModelConfig sizes = sizes_with(Head::tied), standard = variants_of(Architecture::standard, sizes).front();
  ModelConfig config = variants_of(Architecture::hopfield, sizes).front();
  config.temperature = 1;
  expect_same_gradients(config, standard, 43);
}

TEST(GradientEquivalence, of_bsbr_in_one_chunk_and_standard) {
  ModelConfig sizes = sizes_with(Head::tied);
  sizes.chunk_size = 50;
  const ModelConfig standard = variants_of(Architecture::standard, sizes).front();
  for (const ModelConfig& config : variants_of(Architecture::bsbr, sizes)) {
    if (config.causality == Causality::causal && !compresses_states(config))
      expect_same_gradients(config, standard, 43);
  }
}

TEST(GradientEquivalence, of_chunks_of_other_sizes_where_they_are_tiles_only) {
  const auto is_independent = [](const ModelConfig& config) { return !depends_on_chunks(config); };
  for (const ModelConfig& config : variants(sizes_with(Head::separate), is_independent)) {
    ModelConfig other = config;
    other.chunk_size = 17;
    expect_same_gradients(config, other, 43);
  }
}

/// The same vector is added to all embeddings: the loss changes by the sum of the gradient's rows times it.
TEST(GradientOfTheEmbedding, sums_up_to_what_a_shift_of_all_rows_changes) {
  for (const ModelConfig& config : variants(sizes_with(Head::separate), has_its_own_way)) {
    const Batch batch = random_batch(config, 2, 43, 3, Padding::holes);
    reference::WeightMap map = random_weight_map(config, 1);
    const Weights<double> weights = to_weights<double>(config, map);
    const auto gradients = compute_gradients(weights, MPI_COMM_SELF, batch, targets_of(batch)).gradients;
    const auto embedding = gradient_of(weights, gradients, "embedding.weight");
    const auto hidden = static_cast<std::size_t>(config.hidden_dim);
    const std::vector<double> direction = random_matrix(1, config.hidden_dim, 9).values;
    double expected = 0;
    for (std::size_t i = 0; i < embedding.size(); ++i) expected += embedding[i] * direction[i % hidden];
    const auto loss = [&](double step) {
      reference::WeightMap moved = map;
      std::vector<double>& table = moved.at("embedding.weight").values;
      for (std::size_t i = 0; i < table.size(); ++i) table[i] += step * direction[i % hidden];
      return compute_gradients(to_weights<double>(config, moved), MPI_COMM_SELF, batch, targets_of(batch)).loss;
    };
    constexpr double step = 1e-4;
    EXPECT_NEAR((loss(step) - loss(-step)) / (2 * step), expected, 1e-5 * (std::abs(expected) + 1)) << describe(config);
  }
}

}  // namespace
}  // namespace bsbr::testing
