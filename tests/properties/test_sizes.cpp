// Sizes at which kernels break, against the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels/tuning.hpp"
#include "support/compare.hpp"
#include "support/device_arrays.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

/// The same weights as the library's: rounded to Real.
template <class Real>
reference::WeightMap rounded(reference::WeightMap weights) {
  for (auto& [name, matrix] : weights) {
    for (double& value : matrix.values) value = static_cast<double>(static_cast<Real>(value));
  }
  return weights;
}

/// What the reference computes for a whole batch, [batch · length, hidden_dim].
reference::Matrix expected_states(const ModelConfig& config, const reference::WeightMap& weights, const Batch& batch) {
  reference::Matrix all(batch.batch * batch.length, config.hidden_dim);
  auto next = all.values.begin();
  for (std::int64_t row = 0; row < batch.batch; ++row) {
    const auto states = reference::forward(config, weights, batch.row_ids(row), batch.row_mask(row)).hidden_states;
    next = std::copy(states.values.begin(), states.values.end(), next);
  }
  return all;
}

/// Roundings of a forward pass are as bad as this many of its weights' are: one is in each of its operations, not in
/// the weights alone.
constexpr double roundings = 8;

template <class Real>
class Sizes : public ::testing::Test {
 protected:
  /// The model's hidden states against those of the reference.
  void expect_close(const ModelConfig& config, const Batch& batch) {
    expect_close(config, random_weight_map(config, 2), batch);
  }

  void expect_close(const ModelConfig& config, const reference::WeightMap& weights, const Batch& batch) {
    const auto held = rounded<Real>(weights);
    Model<Real> model(to_weights<Real>(config, held));
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    const auto expected = expected_states(config, held, batch);
    const Numbers actual(states, {expected.rows, expected.columns});
    double tolerance = sizeof(Real) == 4 ? 2e-5 * std::max(1.0, largest_magnitude(expected.values)) : 1e-10;
    if (sizeof(Real) == 4 &&
        !all_close(actual, expected, tolerance)) {  // a model whose numbers move far where weights move little
      tolerance += roundings * largest_difference(expected_states(config, weights, batch).values, expected.values);
    }
    EXPECT_TRUE(all_close(actual, expected, tolerance));
  }

  /// All variants, or those for which holds(config), with and without padding.
  void expect_all_close(
      const ModelConfig& sizes, const std::vector<std::int64_t>& lengths,
      const std::function<bool(const ModelConfig&)>& holds = [](const ModelConfig&) { return true; }) {
    for (const ModelConfig& config : variants(sizes, holds)) {
      const auto weights = random_weight_map(config, 2);
      for (const std::int64_t length : lengths) {
        SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens");
        expect_close(config, weights, random_batch(config, 1, length, 41));
        expect_close(config, weights, random_batch(config, 2, length, 42, Padding::holes));
      }
    }
  }
};
TYPED_TEST_SUITE(Sizes, Reals, RealNames);

ModelConfig base_config() { return small_config(Architecture::bsbr); }  // D = 12, 3 heads, chunks of 5

std::vector<std::int64_t> lengths_around(std::int64_t chunk) {
  return {0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk - 1, 3 * chunk + 1};
}

TYPED_TEST(Sizes, lengths_around_chunk_borders) { this->expect_all_close(base_config(), lengths_around(5)); }

TYPED_TEST(Sizes, lengths_around_tile_and_panel_borders) {
  ModelConfig config = base_config();
  config.num_layers = 1;
  config.chunk_size = 70;
  for (const std::int64_t border : {kernels::tuning::key_tile, kernels::tuning::panel_rows}) {
    this->expect_all_close(config, {border - 1, border, border + 1}, has_its_own_way);
  }
}

TYPED_TEST(Sizes, head_widths_from_one_to_128) {
  for (const std::int64_t width : {1, 5, 12, 64, 80, 128}) {
    SCOPED_TRACE("heads of " + std::to_string(width));
    ModelConfig config = base_config();
    config.num_layers = 1;
    config.num_heads = 2;
    config.hidden_dim = 2 * width;
    config.chunk_size = 7;
    config.compression_factor = width > 12 ? width / 4 : 2;
    this->expect_all_close(config, {22}, has_its_own_way);
  }
}

TYPED_TEST(Sizes, odd_hidden_dims) {
  for (const std::int64_t hidden : {1, 3, 5, 45}) {
    SCOPED_TRACE("hidden_dim = " + std::to_string(hidden));
    ModelConfig config = base_config();
    config.hidden_dim = hidden;
    config.num_heads = hidden % 3 == 0 ? 3 : 1;
    this->expect_all_close(config, {16});
  }
}

TYPED_TEST(Sizes, one_head) {
  ModelConfig config = base_config();
  config.num_heads = 1;
  this->expect_all_close(config, lengths_around(5));
}

TYPED_TEST(Sizes, as_many_heads_as_numbers) {
  ModelConfig config = base_config();
  config.num_heads = config.hidden_dim;
  this->expect_all_close(config, lengths_around(5));
}

TYPED_TEST(Sizes, feed_forward_of_width_one) {
  ModelConfig config = base_config();
  config.ff_dim = 1;
  this->expect_all_close(config, {16});
}

TYPED_TEST(Sizes, one_word_and_many_layers) {
  ModelConfig config = base_config();
  config.vocab_size = 1;
  config.num_layers = 7;
  this->expect_all_close(config, {16});
}

TYPED_TEST(Sizes, chunks_of_one_token) {
  ModelConfig config = base_config();
  config.chunk_size = 1;
  config.compression_factor = 3;
  this->expect_all_close(config, {1, 2, 3, 130});
}

TYPED_TEST(Sizes, chunks_larger_than_the_sequence) {
  ModelConfig config = base_config();
  for (const std::int64_t chunk_size :
       {std::int64_t{31}, std::int64_t{100}, std::int64_t{4096}, std::int64_t{1} << 30}) {
    SCOPED_TRACE("chunks of " + std::to_string(chunk_size));
    config.chunk_size = chunk_size;
    this->expect_all_close(config, {1, 30});
  }
}

TYPED_TEST(Sizes, chunks_of_4096_tokens) {
  ModelConfig sizes = base_config();
  sizes.num_layers = 1;
  sizes.chunk_size = 4096;
  const auto some =
      [](const ModelConfig& config) {  // in the others nothing is as long as a chunk, or it is as in these
        const auto has = [&](const char* field) { return has_field(config.architecture, field); };
        return depends_on_chunks(config) && !compresses_states(config) &&
               (!has("expansion_factor") || config.expansion_factor == 1) &&
               (!has("causality") || config.causality == Causality::causal || config.causality == Causality::reference);
      };
  for (const ModelConfig& config : variants(sizes, some)) {
    SCOPED_TRACE(describe(config));
    this->expect_close(config, random_batch(config, 1, 4096 + 65, 43));
  }
}

TYPED_TEST(Sizes, compression_from_expanding_to_one_number) {
  for (const std::int64_t heads : {3, 6, 12}) {               // d² = 16, 4, 1
    for (const std::int64_t factor : {1, 2, 3, 5, 11, 12}) {  // to 12, 6, 4, 2, 1, 1 numbers
      ModelConfig sizes = base_config();
      sizes.num_heads = heads;
      sizes.compression_factor = factor;
      for (const ModelConfig& config : variants_of(Architecture::bsbr, sizes)) {
        SCOPED_TRACE(describe(config));
        this->expect_close(config, random_batch(config, 2, 16, 42, Padding::holes));
      }
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
