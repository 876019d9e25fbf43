// Sizes at which kernels break, against the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels/tuning.hpp"
#include "support/compare.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"

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

template <class Real>
class Sizes : public ::testing::Test {
 protected:
  /// The model's hidden states against those of the reference, whose configuration may be another one with the same weights.
  void expect_close(const ModelConfig& config, const Batch& batch, const ModelConfig& reference_config) {
    expect_close(config, rounded<Real>(random_weight_map(config, 2)), batch, reference_config);
  }

  void expect_close(const ModelConfig& config, const reference::WeightMap& weights, const Batch& batch,
                    const ModelConfig& reference_config) {
    Model<Real> model(to_weights<Real>(config, weights));
    const auto actual = run_model(model, MPI_COMM_SELF, batch);
    const auto expected = expected_states(reference_config, weights, batch);
    double scale = 1;
    for (const double value : expected.values) scale = std::max(scale, std::abs(value));
    const double tolerance = sizeof(Real) == 4 ? 2e-5 * scale : 1e-10;
    EXPECT_TRUE(all_close({actual, {expected.rows, expected.columns}}, expected, tolerance));
  }

  /// Lengths around those at which chunks begin, all causalities, with and without padding.
  void expect_close(const ModelConfig& sizes, const std::vector<std::int64_t>& lengths) {
    const auto weights = rounded<Real>(random_weight_map(sizes, 2));
    for (const auto& causality : causalities) {
      ModelConfig config = sizes;
      config.causality = causality.value;
      for (const std::int64_t length : lengths) {
        SCOPED_TRACE(std::string(causality.name) + ", " + std::to_string(length) + " tokens");
        expect_close(config, weights, random_batch(config, 1, length, 41), config);
        expect_close(config, weights, random_batch(config, 2, length, 42, Padding::holes), config);
      }
    }
  }
};
TYPED_TEST_SUITE(Sizes, Reals, RealNames);

ModelConfig base_config() { return small_config(Architecture::bsbr); }  // D = 12, 3 heads, chunks of 5

std::vector<std::int64_t> lengths_around(std::int64_t chunk) { return {0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk - 1, 3 * chunk + 1}; }

TYPED_TEST(Sizes, lengths_around_chunk_borders) {
  ModelConfig config = base_config();
  this->expect_close(config, lengths_around(5));
  config.compression_factor = 4;
  this->expect_close(config, lengths_around(5));
}

TYPED_TEST(Sizes, lengths_around_tile_and_panel_borders) {
  ModelConfig config = base_config();
  config.num_layers = 1;
  config.chunk_size = 70;
  for (const std::int64_t border : {kernels::tuning::key_tile, kernels::tuning::panel_rows}) {
    this->expect_close(config, {border - 1, border, border + 1});
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
    this->expect_close(config, {22});
    config.compression_factor = width > 12 ? width / 4 : 2;
    this->expect_close(config, {22});
  }
}

TYPED_TEST(Sizes, odd_hidden_dims) {
  for (const std::int64_t hidden : {1, 3, 5, 45}) {
    SCOPED_TRACE("hidden_dim = " + std::to_string(hidden));
    ModelConfig config = base_config();
    config.hidden_dim = hidden;
    config.num_heads = hidden % 3 == 0 ? 3 : 1;
    this->expect_close(config, {16});
  }
}

TYPED_TEST(Sizes, one_head) {
  ModelConfig config = base_config();
  config.num_heads = 1;
  this->expect_close(config, lengths_around(5));
}

TYPED_TEST(Sizes, as_many_heads_as_numbers) {
  ModelConfig config = base_config();
  config.num_heads = config.hidden_dim;
  this->expect_close(config, lengths_around(5));
}

TYPED_TEST(Sizes, feed_forward_of_width_one) {
  ModelConfig config = base_config();
  config.ff_dim = 1;
  this->expect_close(config, {16});
}

TYPED_TEST(Sizes, one_word_and_many_layers) {
  ModelConfig config = base_config();
  config.vocab_size = 1;
  config.num_layers = 7;
  this->expect_close(config, {16});
}

TYPED_TEST(Sizes, chunks_of_one_token) {
  ModelConfig config = base_config();
  config.chunk_size = 1;
  this->expect_close(config, {1, 2, 3, 130});
  config.compression_factor = 3;
  this->expect_close(config, {1, 2, 3, 130});
}

TYPED_TEST(Sizes, chunks_larger_than_the_sequence) {
  ModelConfig config = base_config();
  for (const std::int64_t chunk_size : {std::int64_t{31}, std::int64_t{100}, std::int64_t{4096}, std::int64_t{1} << 30}) {
    SCOPED_TRACE("chunks of " + std::to_string(chunk_size));
    config.chunk_size = chunk_size;
    this->expect_close(config, {1, 30});
  }
}

TYPED_TEST(Sizes, chunks_of_4096_tokens) {
  ModelConfig config = base_config();
  config.num_layers = 1;
  config.chunk_size = 4096;
  for (const Causality causality : {Causality::causal, Causality::reference}) {
    config.causality = causality;
    this->expect_close(config, random_batch(config, 1, 4096 + 65, 43), config);
  }
}

TYPED_TEST(Sizes, compression_from_expanding_to_one_number) {
  ModelConfig config = base_config();
  for (const std::int64_t heads : {3, 6, 12}) {               // d² = 16, 4, 1
    for (const std::int64_t factor : {1, 2, 3, 5, 11, 12}) {  // to 12, 6, 4, 2, 1, 1 numbers
      SCOPED_TRACE(std::to_string(heads) + " heads, compression_factor " + std::to_string(factor));
      config.num_heads = heads;
      config.compression_factor = factor;
      this->expect_close(config, {16});
    }
  }
}

TYPED_TEST(Sizes, one_causal_chunk_is_standard_attention) {
  ModelConfig config = base_config();
  for (const std::int64_t compression : {0, 4}) {
    config.compression_factor = compression;
    for (const std::int64_t chunk_size : {40, 64, 1000}) {
      config.chunk_size = chunk_size;
      ModelConfig standard = config;
      standard.architecture = Architecture::standard;
      for (const std::int64_t length : {1, 39, 40}) {
        for (const Padding padding : {Padding::none, Padding::holes, Padding::left}) {
          SCOPED_TRACE(std::to_string(length) + " tokens, chunks of " + std::to_string(chunk_size));
          this->expect_close(config, random_batch(config, 2, length, 44, padding), standard);
        }
      }
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
