// Who can see whom: what comes later changes no bit of what comes before, where the causality says so.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/tuning.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t panel = kernels::tuning::panel_rows;
constexpr std::int64_t length = 2 * panel + 37;

ModelConfig with_chunks_of(std::int64_t chunk_size) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.chunk_size = chunk_size;
  return sizes;
}

/// Products so large that a BLAS blocks them.
ModelConfig large_sizes() {
  ModelConfig sizes = with_chunks_of(33);
  sizes.num_layers = 1;
  sizes.hidden_dim = 120;
  sizes.ff_dim = 450;
  return sizes;
}

bool has_causality(const ModelConfig& config) { return has_field(config.architecture, "causality"); }

/// The variants with this causality, of the architecture that has the field (bsbr): chunks that panels cut, chunks that
/// fill panels, chunks so small that their states fill several panels; each with and without compression. And large
/// products.
std::vector<ModelConfig> bsbr_with(Causality causality) {
  const auto has_it = [&](const ModelConfig& config) { return has_causality(config) && config.causality == causality; };
  std::vector<ModelConfig> configs;
  for (const std::int64_t chunk_size : {std::int64_t{24}, panel, std::int64_t{2}}) {
    for (const ModelConfig& config : variants(with_chunks_of(chunk_size), has_it)) configs.push_back(config);
  }
  configs.push_back(variants(large_sizes(), has_it).front());
  return configs;
}

ModelConfig plain_bsbr_with(Causality causality) { return bsbr_with(causality).front(); }

/// The variants that are causal; bsbr at more sizes than the others, as more of its sums depend on the chunks.
std::vector<ModelConfig> causal_configs() {
  auto configs = bsbr_with(Causality::causal);
  const auto others = [](const ModelConfig& config) { return is_causal(config) && !has_causality(config); };
  for (const ModelConfig& config : variants(with_chunks_of(24), others)) configs.push_back(config);
  return configs;
}

/// Positions around borders: of panels, tiles and chunks for bsbr, and fewer for the others.
std::vector<std::int64_t> positions(const ModelConfig& config) {
  const std::int64_t chunk = config.chunk_size;
  if (!has_causality(config)) return {1, chunk, kernels::tuning::state_tile, panel - 1, length - 1};
  std::vector<std::int64_t> all{1, length / 2, length - 1};
  for (const std::int64_t border : {chunk, 3 * chunk, panel, panel / chunk * chunk, 2 * panel}) {
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
  /// Changing the tokens [changed, length) changes no bit before `unchanged_before`, and changes the token `changed`
  /// itself.
  void expect_no_change(Model<Real>& model, const Batch& batch, const std::vector<Real>& states, std::int64_t changed,
                        std::int64_t unchanged_before) {
    const ModelConfig& config = model.config();
    SCOPED_TRACE(describe(config) + ", from token " + std::to_string(changed));
    const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, changed, batch.length));
    const auto before = [&](const std::vector<Real>& all) {
      return rows_of(all, config.hidden_dim, 0, unchanged_before);
    };
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
  for (const ModelConfig& config : causal_configs()) {
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, length, 5);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t t : positions(config)) this->expect_no_change(model, batch, states, t, t);
  }
}

TYPED_TEST(CausalityOf, causal_makes_the_prefix_of_a_sequence_give_the_prefix) {
  for (const ModelConfig& config : causal_configs()) {
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, length, 6);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t t : positions(config)) this->expect_prefix(model, batch, states, t);
  }
}

TYPED_TEST(CausalityOf, causal_holds_for_sequences_with_padding) {
  const auto some = [](const ModelConfig& config) {
    return is_causal(config) && has_its_own_way(config) && !compresses_states(config);
  };
  for (const ModelConfig& config : variants(with_chunks_of(24), some)) {
    for (const Padding padding : {Padding::holes, Padding::whole_chunks, Padding::left}) {
      if (!depends_on_chunks(config) && padding == Padding::whole_chunks) continue;
      auto model = random_model<TypeParam>(config);
      const Batch batch = random_batch(config, 1, length, 7, padding);
      const auto states = run_model(model, MPI_COMM_SELF, batch);
      for (const std::int64_t t : positions(config)) {
        this->expect_no_change(model, batch, states, t, t);
        this->expect_prefix(model, batch, states, t);
      }
    }
  }
}

TYPED_TEST(CausalityOf, block_causal_lets_no_later_chunk_change_an_earlier_one) {
  for (const ModelConfig& config : bsbr_with(Causality::block_causal)) {
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, length, 8);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t t : positions(config)) {
      const std::int64_t border = t / config.chunk_size * config.chunk_size;
      this->expect_no_change(model, batch, states, t, border);
      if (border > 0) this->expect_prefix(model, batch, states, border);
    }
  }
}

TYPED_TEST(CausalityOf, block_causal_lets_a_token_change_its_whole_chunk) {
  const ModelConfig config = plain_bsbr_with(Causality::block_causal);
  auto model = random_model<TypeParam>(config);
  const Batch batch = random_batch(config, 1, 100, 9);
  const auto states = run_model(model, MPI_COMM_SELF, batch);
  const auto other =
      run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, 71, 72));  // the last of the third chunk
  for (const std::int64_t t : {48, 60, 70, 72, 99}) EXPECT_TRUE(differs(other, states, config, t)) << t;
}

// The tests above can fail: these causalities do see what comes later.
TYPED_TEST(CausalityOf, bidirectional_and_reference_let_a_later_token_change_earlier_ones) {
  for (const Causality causality : {Causality::bidirectional, Causality::reference}) {
    for (const ModelConfig& config : bsbr_with(causality)) {
      SCOPED_TRACE(describe(config));
      auto model = random_model<TypeParam>(config);
      const Batch batch = random_batch(config, 1, length, 10);
      const auto states = run_model(model, MPI_COMM_SELF, batch);
      const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, length - 1, length));
      for (const std::int64_t t : {std::int64_t{0}, panel - 1, panel, length - 2})
        EXPECT_TRUE(differs(other, states, config, t)) << t;
    }
  }
}

TYPED_TEST(CausalityOf, bidirectional_lets_an_earlier_token_change_all_later_ones) {
  const ModelConfig config = plain_bsbr_with(Causality::bidirectional);
  auto model = random_model<TypeParam>(config);
  const Batch batch = random_batch(config, 1, length, 11);
  const auto states = run_model(model, MPI_COMM_SELF, batch);
  const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, 0, 1));
  for (const std::int64_t t : {std::int64_t{1}, panel, length - 1}) EXPECT_TRUE(differs(other, states, config, t)) << t;
}

TYPED_TEST(CausalityOf, reference_lets_no_earlier_chunk_change_a_later_one) {
  for (const ModelConfig& config : bsbr_with(Causality::reference)) {
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
    const ModelConfig config = plain_bsbr_with(causality.value);
    results.push_back(run_alone<TypeParam>(config, random_batch(config, 1, 100, 13)));
    for (std::size_t i = 0; i + 1 < results.size(); ++i)
      EXPECT_TRUE(differs(results.back(), results[i], config, 30)) << causality.name;
  }
}

// ---- The window -----------------------------------------------------------------------------------------------------

/// In one layer a token is seen by those up to `window` after it, and by no other.
TYPED_TEST(CausalityOf, sliding_window_lets_a_token_change_those_that_it_is_in_the_window_of_and_no_bit_of_others) {
  ModelConfig sizes = with_chunks_of(5);
  sizes.num_layers = 1;
  for (const ModelConfig& config : variants_of(Architecture::sliding_window, sizes)) {
    const std::int64_t tokens = 2 * kernels::tuning::key_tile + 9;
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, tokens, 14);
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t changed :
         {std::int64_t{0}, std::int64_t{3}, std::int64_t{kernels::tuning::key_tile - 1}, tokens - 2}) {
      SCOPED_TRACE(describe(config) + ", token " + std::to_string(changed));
      const auto other = run_model(model, MPI_COMM_SELF, with_other_tokens(batch, config, changed, changed + 1));
      for (std::int64_t t = 0; t < tokens; ++t) {
        EXPECT_EQ(differs(other, states, config, t), t >= changed && t - changed <= config.window_size) << t;
      }
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
