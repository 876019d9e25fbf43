// Who can see whom: what comes later changes no bit of what comes before, where the causality says so.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/tuning.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t panel = kernels::tuning::panel_rows;
constexpr std::int64_t length = 2 * panel + 37;

ModelConfig config_of(Causality causality, std::int64_t chunk_size, std::int64_t compression_factor) {
  ModelConfig config = small_config(Architecture::bsbr);
  config.causality = causality;
  config.chunk_size = chunk_size;
  config.compression_factor = compression_factor;
  return config;
}

/// Chunks that panels cut, chunks that fill panels, chunks so small that their states fill several panels; each with and without
/// compression. And products so large that a BLAS blocks them.
std::vector<ModelConfig> configs_of(Causality causality) {
  std::vector<ModelConfig> configs;
  for (const std::int64_t chunk_size : {std::int64_t{24}, panel, std::int64_t{2}}) {
    for (const std::int64_t compression : {0, 4}) configs.push_back(config_of(causality, chunk_size, compression));
  }
  ModelConfig large = config_of(causality, 33, 0);
  large.num_layers = 1;
  large.hidden_dim = 120;
  large.ff_dim = 450;
  configs.push_back(large);
  return configs;
}

std::string describe(const ModelConfig& config) {
  return std::string(to_string(config.causality)) + ", chunks of " + std::to_string(config.chunk_size) + ", compression " +
         std::to_string(config.compression_factor);
}

/// Positions around chunk and panel borders.
std::vector<std::int64_t> positions(std::int64_t chunk_size) {
  std::vector<std::int64_t> all{1, length / 2, length - 1};
  for (const std::int64_t border : {chunk_size, 3 * chunk_size, panel, panel / chunk_size * chunk_size, 2 * panel}) {
    for (std::int64_t t = border - 1; t <= border + 1; ++t) all.push_back(t);
  }
  std::erase_if(all, [](std::int64_t t) { return t < 1 || t >= length; });
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

/// Another token everywhere in [begin, end).
Batch with_other_tokens(Batch batch, const ModelConfig& config, std::int64_t begin, std::int64_t end) {
  for (std::int64_t t = begin; t < end; ++t) {
    auto& id = batch.ids[static_cast<std::size_t>(t)];
    id = (id + 1 + t % 3) % config.vocab_size;
  }
  return batch;
}

/// Whether the hidden state of a token differs.
template <class Real>
bool differs(const std::vector<Real>& a, const std::vector<Real>& b, const ModelConfig& config, std::int64_t t) {
  return !same_bits(rows_of(a, config.hidden_dim, t, 1), rows_of(b, config.hidden_dim, t, 1), config.hidden_dim);
}

template <class Real>
class CausalityOf : public ::testing::Test {
 protected:
  /// Changing the tokens [changed, length) changes no bit before `unchanged_before`, and changes the token `changed` itself.
  void expect_no_change(Model<Real>& model, const Batch& batch, const std::vector<Real>& states, std::int64_t changed,
                        std::int64_t unchanged_before) {
    const ModelConfig& config = model.config();
    SCOPED_TRACE(describe(config) + ", from token " + std::to_string(changed));
    const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, changed, batch.length));
    const auto before = [&](const std::vector<Real>& all) { return rows_of(all, config.hidden_dim, 0, unchanged_before); };
    EXPECT_TRUE(same_bits(before(other), before(states), config.hidden_dim));
    EXPECT_TRUE(differs(other, states, config, changed));
  }

  void expect_prefix(Model<Real>& model, const Batch& batch, const std::vector<Real>& states, std::int64_t tokens) {
    const ModelConfig& config = model.config();
    SCOPED_TRACE(describe(config) + ", the first " + std::to_string(tokens) + " tokens");
    const auto prefix = run_model(model, MPI_COMM_SELF, batch.prefix(tokens));
    EXPECT_TRUE(same_bits(prefix, rows_of(states, config.hidden_dim, 0, tokens), config.hidden_dim));
  }
};
TYPED_TEST_SUITE(CausalityOf, Reals, RealNames);

TYPED_TEST(CausalityOf, causal_lets_no_later_token_change_an_earlier_one) {
  for (const ModelConfig& config : configs_of(Causality::causal)) {
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, length, 5);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t t : positions(config.chunk_size)) this->expect_no_change(model, batch, states, t, t);
  }
}

TYPED_TEST(CausalityOf, causal_makes_the_prefix_of_a_sequence_give_the_prefix) {
  for (const ModelConfig& config : configs_of(Causality::causal)) {
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, length, 6);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t t : positions(config.chunk_size)) this->expect_prefix(model, batch, states, t);
  }
}

TYPED_TEST(CausalityOf, causal_holds_for_sequences_with_padding) {
  for (const Padding padding : {Padding::holes, Padding::whole_chunks, Padding::left}) {
    const ModelConfig config = config_of(Causality::causal, 24, 0);
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, length, 7, padding);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t t : positions(config.chunk_size)) {
      this->expect_no_change(model, batch, states, t, t);
      this->expect_prefix(model, batch, states, t);
    }
  }
}

TYPED_TEST(CausalityOf, block_causal_lets_no_later_chunk_change_an_earlier_one) {
  for (const ModelConfig& config : configs_of(Causality::block_causal)) {
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, length, 8);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t t : positions(config.chunk_size)) {
      const std::int64_t border = t / config.chunk_size * config.chunk_size;
      this->expect_no_change(model, batch, states, t, border);
      if (border > 0) this->expect_prefix(model, batch, states, border);
    }
  }
}

TYPED_TEST(CausalityOf, block_causal_lets_a_token_change_its_whole_chunk) {
  const ModelConfig config = config_of(Causality::block_causal, 24, 0);
  auto model = random_model<TypeParam>(config);
  const Batch batch = random_batch(config, 1, 100, 9);
  const auto states = run_model(model, MPI_COMM_SELF, batch);
  const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, 71, 72));  // the last of the third chunk
  for (const std::int64_t t : {48, 60, 70, 72, 99}) EXPECT_TRUE(differs(other, states, config, t)) << t;
}

// The tests above can fail: these causalities do see what comes later.
TYPED_TEST(CausalityOf, bidirectional_and_reference_let_a_later_token_change_earlier_ones) {
  for (const Causality causality : {Causality::bidirectional, Causality::reference}) {
    for (const ModelConfig& config : configs_of(causality)) {
      SCOPED_TRACE(describe(config));
      auto model = random_model<TypeParam>(config);
      const Batch batch = random_batch(config, 1, length, 10);
      const auto states = run_model(model, MPI_COMM_SELF, batch);
      const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, length - 1, length));
      for (const std::int64_t t : {std::int64_t{0}, panel - 1, panel, length - 2}) EXPECT_TRUE(differs(other, states, config, t)) << t;
    }
  }
}

TYPED_TEST(CausalityOf, bidirectional_lets_an_earlier_token_change_all_later_ones) {
  const ModelConfig config = config_of(Causality::bidirectional, 24, 0);
  auto model = random_model<TypeParam>(config);
  const Batch batch = random_batch(config, 1, length, 11);
  const auto states = run_model(model, MPI_COMM_SELF, batch);
  const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, 0, 1));
  for (const std::int64_t t : {std::int64_t{1}, panel, length - 1}) EXPECT_TRUE(differs(other, states, config, t)) << t;
}

TYPED_TEST(CausalityOf, reference_lets_no_earlier_chunk_change_a_later_one) {
  for (const ModelConfig& config : configs_of(Causality::reference)) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, length, 12);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    const std::int64_t border = 2 * config.chunk_size;
    if (border >= length) continue;
    const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, 0, border));
    const auto after = [&](const auto& all) { return rows_of(all, config.hidden_dim, border, length - border); };
    EXPECT_TRUE(same_bits(after(other), after(states), config.hidden_dim));
    EXPECT_TRUE(differs(other, states, config, border - 1));
  }
}

TYPED_TEST(CausalityOf, every_causality_gives_other_numbers) {
  std::vector<std::vector<TypeParam>> results;
  for (const auto& causality : causalities) {
    const ModelConfig config = config_of(causality.value, 24, 0);
    results.push_back(run_alone<TypeParam>(config, random_batch(config, 1, 100, 13)));
    for (std::size_t i = 0; i + 1 < results.size(); ++i) EXPECT_TRUE(differs(results.back(), results[i], config, 30)) << causality.name;
  }
}

}  // namespace
}  // namespace bsbr::testing
