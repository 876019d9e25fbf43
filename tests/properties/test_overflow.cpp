// What is not finite, NaN or infinite, reaches the tokens that see it and no others: these keep every bit. Which tokens
// it reaches does not depend on the ranks. Runs on five ranks, of which the first 1, 2, 3 and 5 work together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "bsbr/error.hpp"
#include "bsbr/nonfinite.hpp"
#include "kernels/tuning.hpp"
#include "support/attention.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t tile = kernels::tuning::key_tile;
constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();

std::vector<int> rank_counts() {
  std::vector<int> counts{1, 2, 3, 5};
  std::erase_if(counts, [](int count) { return count > world_ranks(); });
  return counts;
}

/// Whether token t sees the key and value of token s, itself or in the state of a chunk: docs/mathematics.md.
bool sees(const ModelConfig& config, const reference::Mask& mask, std::int64_t t, std::int64_t s) {
  if (heeds_padding(config) && !mask.empty() && mask[static_cast<std::size_t>(s)] == 0) return false;
  if (is_causal(config)) return s <= t && t - s <= traits(config.architecture).window(config);
  const std::int64_t i = t / config.chunk_size, j = s / config.chunk_size;
  if (config.causality == Causality::block_causal) return j <= i;
  if (config.causality == Causality::reference) return j >= i;  // a chunk retrieves its own state, too
  return true;
}

/// The same numbers, with one NaN for all.
template <class Real>
std::vector<Real> with_one_nan(std::vector<Real> numbers) {
  for (Real& number : numbers) {
    if (std::isnan(number)) number = std::numeric_limits<Real>::quiet_NaN();
  }
  return numbers;
}

template <class Real>
bool is_finite(const std::vector<Real>& rows, std::int64_t width, std::int64_t row) {
  const auto values = rows_of(rows, width, row, 1);
  return std::all_of(values.begin(), values.end(), [](Real value) { return std::isfinite(value); });
}

// ---- An attention ---------------------------------------------------------------------------------------------------

/// Which of the inputs is not finite at a token.
struct Input {
  const char* name;
  reference::Matrix AttentionNumbers::*rows;
  bool others_see_it;
};
constexpr Input inputs[] = {{"query", &AttentionNumbers::query, false},
                            {"key", &AttentionNumbers::key, true},
                            {"value", &AttentionNumbers::value, true},
                            {"gate", &AttentionNumbers::gate, false}};

constexpr std::int64_t length = 2 * tile + 8;  // with chunks of 5: the last one is ragged
const std::int64_t places[] = {0, 4, 5, tile - 3, tile - 1, tile, length - 2, length - 1};

template <class Real>
class OverflowIn : public ::testing::Test {
 protected:
  static std::vector<reference::Mask> masks() { return {{}, random_mask(length, 0.3, 5)}; }

  /// The results of one attention, of which some input at the token `place` is not finite.
  void expect_it_stays(const ModelConfig& config, const AttentionNumbers& numbers, const reference::Mask& mask,
                       const Input& input, std::int64_t place, double bad, const std::vector<Real>& expected) {
    const std::int64_t width = config.attention_dim();
    const auto actual = run_attention<Real>(config, numbers, mask);
    for (std::int64_t t = 0; t < length; ++t) {
      if (t == place || (input.others_see_it && sees(config, mask, t, place))) continue;
      EXPECT_TRUE(same_bits(rows_of(actual, width, t, 1), rows_of(expected, width, t, 1), width)) << "token " << t;
    }
    if (!sees(config, mask, place, place)) {
      EXPECT_TRUE(!input.others_see_it ||
                  same_bits(actual, expected, width));  // padding: its key and value matter to nobody
    } else if (std::isnan(bad) ||
               input.rows == &AttentionNumbers::value) {  // others may come to a weight or a factor of 0 or 1
      EXPECT_FALSE(is_finite(actual, width, place));
    }
  }
};
TYPED_TEST_SUITE(OverflowIn, Reals, RealNames);

TYPED_TEST(OverflowIn, an_input_of_a_token_changes_no_bit_of_tokens_that_do_not_see_it) {
  if (world_ranks() > 1) return;  // the test on one rank has it
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    for (const reference::Mask& mask : this->masks()) {
      const AttentionNumbers numbers = random_attention(config, length, 1);
      const auto expected = run_attention<TypeParam>(config, numbers, mask);
      for (const Input& input : inputs) {
        if ((numbers.*input.rows).values.empty()) continue;
        for (const std::int64_t place : places) {
          for (const double bad : {infinity, -infinity, nan}) {
            SCOPED_TRACE(describe(config) + (mask.empty() ? ", " : ", padding, ") + input.name + " " +
                         std::to_string(bad) + " at token " + std::to_string(place));
            auto spoiled = numbers;
            auto& rows = spoiled.*input.rows;
            for (std::int64_t column = 0; column < rows.columns; column += 3)
              rows(place, column) = bad;  // some of each head
            this->expect_it_stays(config, spoiled, mask, input, place, bad, expected);
          }
        }
      }
    }
  }
}

TYPED_TEST(OverflowIn, a_retrieval_vector_changes_no_bit_of_chunks_that_do_not_see_it) {
  if (world_ranks() > 1) return;
  const auto has_retrieval = [](const ModelConfig& config) { return traits(config.architecture).has_retrieval(); };
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr), has_retrieval)) {
    const std::int64_t width = config.attention_dim(), size = config.chunk_size;
    const AttentionNumbers numbers = random_attention(config, length, 2);
    const auto expected = run_attention<TypeParam>(config, numbers, {});
    for (const bool of_key : {false, true}) {
      for (const std::int64_t chunk : {std::int64_t{0}, std::int64_t{1}, std::int64_t{12}, (length - 1) / size}) {
        SCOPED_TRACE(describe(config) + (of_key ? ", h " : ", r ") + std::to_string(chunk));
        auto spoiled = numbers;
        auto& rows = of_key ? spoiled.retrieval_key : spoiled.retrieval_query;
        for (std::int64_t column = 0; column < width; ++column) rows(chunk, column) = nan;
        const auto actual = run_attention<TypeParam>(config, spoiled, {});
        const bool is_causal = config.causality == Causality::causal;
        for (std::int64_t t = 0; t < length; ++t) {
          const std::int64_t i = t / size;
          const bool seen = of_key ? (is_causal ? chunk < i : sees(config, {}, i * size, chunk * size))
                                   : i == chunk + (is_causal ? 1 : 0);
          EXPECT_EQ(bool(same_bits(rows_of(actual, width, t, 1), rows_of(expected, width, t, 1), width)), !seen)
              << "token " << t;
        }
      }
    }
  }
}

TYPED_TEST(OverflowIn, an_input_gives_the_same_on_any_number_of_ranks) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr), has_its_own_way)) {
    for (const Input& input : inputs) {
      for (const std::int64_t place : {std::int64_t{5}, tile - 1, tile + 6}) {
        for (const double bad : {infinity, nan}) {
          AttentionNumbers numbers = random_attention(config, length, 3);
          auto& rows = numbers.*input.rows;
          if (rows.values.empty()) continue;
          SCOPED_TRACE(describe(config) + ", " + input.name + " " + std::to_string(bad) + " at token " +
                       std::to_string(place));
          rows(place, rows.columns / 2) = bad;
          const auto alone = with_one_nan(run_attention<TypeParam>(config, numbers, {}));
          for (const int count : rank_counts()) {
            const FirstRanks ranks(count);
            if (!ranks.has_this()) continue;
            const auto together = with_one_nan(run_attention<TypeParam>(config, numbers, {}, ranks.comm()));
            EXPECT_TRUE(same_bits(together, alone, config.attention_dim())) << count << " ranks";
          }
        }
      }
    }
  }
}

// ---- A model --------------------------------------------------------------------------------------------------------

/// Its row of the embedding is so large that the sum of a norm overflows.
constexpr std::int64_t large_id(const ModelConfig& config) { return config.vocab_size - 1; }

template <class Real>
Model<Real> model_with_large_id(const ModelConfig& config) {
  auto weights = random_weight_map(config, 1);
  auto& embedding = weights.at("embedding.weight");
  for (std::int64_t column = 0; column < embedding.columns; ++column) {
    embedding(large_id(config), column) = std::numeric_limits<Real>::max() * 0.9;
  }
  return Model<Real>(to_weights<Real>(config, weights));
}

/// Three sequences without that id.
Batch ordinary_batch(const ModelConfig& config, std::int64_t tokens, Padding padding) {
  Batch batch = random_batch(config, 3, tokens, 4, padding);
  for (auto& id : batch.ids) id %= large_id(config);
  return batch;
}

/// Whether token t may change where token s of the same sequence does, through any number of layers.
bool may_change(const ModelConfig& config, const Batch& batch, std::int64_t row, std::int64_t t, std::int64_t s) {
  if (t == s) return true;
  if (heeds_padding(config) && !batch.mask.empty() && batch.mask[static_cast<std::size_t>(row * batch.length + s)] == 0)
    return false;
  if (is_causal(config)) return t > s;
  const std::int64_t i = t / config.chunk_size, j = s / config.chunk_size;
  return config.causality == Causality::block_causal ? i >= j
         : config.causality == Causality::reference  ? i <= j
                                                     : true;
}

/// The states that are not finite, counted here.
template <class Real>
NonfiniteStates count(const std::vector<Real>& states, const Batch& batch, std::int64_t width) {
  NonfiniteStates found;
  for (std::int64_t row = 0; row < batch.batch * batch.length; ++row) {
    if (is_finite(states, width, row)) continue;
    if (found.count++ == 0) found.first = TokenPlace{row / batch.length, row % batch.length};
  }
  return found;
}

/// The library's own count. Collective.
template <class Real>
NonfiniteStates count_by_library(Model<Real>& model, MPI_Comm comm, const Batch& batch) {
  const Sequence sequence(comm, batch.batch, batch.length, model.config().chunk_size);
  std::optional<Array<const std::uint8_t**>> mask;
  if (!batch.mask.empty()) mask = local_part<std::uint8_t>(sequence, batch.mask);
  const auto states = model.forward(Execution(), sequence, local_part<std::int32_t>(sequence, batch.ids), mask);
  return find_nonfinite<Real>(Execution(), sequence, states);
}

void expect_same(const NonfiniteStates& actual, const NonfiniteStates& expected) {
  EXPECT_EQ(actual.count, expected.count);
  ASSERT_EQ(actual.first.has_value(), expected.first.has_value());
  if (!expected.first) return;
  EXPECT_EQ(actual.first->batch, expected.first->batch);
  EXPECT_EQ(actual.first->token, expected.first->token);
}

template <class Real>
class OverflowOf : public ::testing::Test {
 protected:
  void expect_it_stays(const ModelConfig& config, std::int64_t tokens, Padding padding,
                       const std::vector<std::int64_t>& where) {
    auto model = model_with_large_id<Real>(config);
    const Batch batch = ordinary_batch(config, tokens, padding);
    const auto expected = run_model(model, MPI_COMM_SELF, batch);
    for (const std::int64_t place : where) {
      SCOPED_TRACE(describe(config) + ", token " + std::to_string(place) + " of " + std::to_string(tokens) +
                   ", padding " + std::to_string(static_cast<int>(padding)));
      constexpr std::int64_t row = 1;
      Batch spoiled = batch;
      spoiled.ids[static_cast<std::size_t>(row * tokens + place)] = large_id(config);
      const auto actual = run_model(model, MPI_COMM_SELF, spoiled);
      const std::int64_t width = config.hidden_dim;
      for (std::int64_t t = 0; t < 3 * tokens; ++t) {
        if (t / tokens == row && may_change(config, batch, row, t % tokens, place)) continue;
        EXPECT_TRUE(same_bits(rows_of(actual, width, t, 1), rows_of(expected, width, t, 1), width)) << "token " << t;
      }
      EXPECT_FALSE(is_finite(actual, width, row * tokens + place));
      const NonfiniteStates found = count(actual, spoiled, width);
      for (const int ranks_to_try : rank_counts()) {
        const FirstRanks ranks(ranks_to_try);
        if (!ranks.has_this()) continue;
        EXPECT_TRUE(same_bits(run_model(model, ranks.comm(), spoiled), actual, width)) << ranks_to_try << " ranks";
        expect_same(count_by_library(model, ranks.comm(), spoiled), found);
      }
    }
  }
};
TYPED_TEST_SUITE(OverflowOf, Reals, RealNames);

TYPED_TEST(OverflowOf, a_token_changes_no_bit_of_tokens_that_do_not_see_it_on_any_number_of_ranks) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr), has_its_own_way)) {
    this->expect_it_stays(config, tile + 8, Padding::none, {0, 4, 36, tile - 1, tile, tile + 7});
    this->expect_it_stays(config, tile + 8, Padding::holes, {5, 37, tile - 2, tile + 1});
  }
}

TYPED_TEST(OverflowOf, a_token_stays_where_chunks_are_of_other_sizes) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  for (const std::int64_t chunk_size : {std::int64_t{2}, std::int64_t{16}, tile}) {
    sizes.chunk_size = chunk_size;
    for (const ModelConfig& config : variants(sizes, has_its_own_way)) {
      this->expect_it_stays(config, 50, Padding::none, {37});
      if (depends_on_chunks(config))
        this->expect_it_stays(config, 2 * tile + 3, Padding::whole_chunks, {2 * chunk_size - 1, tile + 1});
    }
  }
}

TYPED_TEST(OverflowOf, nothing_is_not_found) {
  for (const std::int64_t tokens : {std::int64_t{0}, std::int64_t{1}, tile + 8}) {
    const ModelConfig config = small_config(Architecture::bsbr);
    auto model = model_with_large_id<TypeParam>(config);
    expect_same(count_by_library(model, MPI_COMM_WORLD, ordinary_batch(config, tokens, Padding::none)), {});
  }
}

TYPED_TEST(OverflowOf, states_of_another_shape_are_refused_on_all_ranks) {
  const Sequence sequence(MPI_COMM_WORLD, 2, 50, 5);
  const Array<TypeParam***> states("states", 2, sequence.local_tokens() + (world_rank() == 0 ? 1 : 0), 3);
  EXPECT_THROW(find_nonfinite<TypeParam>(Execution(), sequence, states), ShapeError);
}

}  // namespace
}  // namespace bsbr::testing
