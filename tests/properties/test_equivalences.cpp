// Different ways to the same numbers: architectures that are the same for some of their options, and chunks that are
// tiles only. Each test holds for any number of ranks, which share every computation.
#include <gtest/gtest.h>

#include "kernels/softmax_tiles.hpp"
#include "support/attention.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

/// D = 15, 3 heads: 1/√5 is no number of either precision.
ModelConfig sizes_with_chunks_of(std::int64_t chunk_size, std::int64_t head_dim = 5) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.hidden_dim = 3 * head_dim;
  sizes.chunk_size = chunk_size;
  return sizes;
}

ModelConfig standard_with(const ModelConfig& sizes) { return variants_of(Architecture::standard, sizes).front(); }

/// Hidden states of the whole batch by all ranks. Weights depend on their shapes only, so that these architectures have
/// the same.
template <class Real>
std::vector<Real> run(const ModelConfig& config, const Batch& batch) {
  auto model = random_model<Real>(config);
  return run_model(model, MPI_COMM_WORLD, batch);
}

template <class Real>
class Equivalence : public ::testing::Test {
 protected:
  /// Both configurations give the same bits, for some lengths and kinds of padding.
  void expect_same(const ModelConfig& one, const ModelConfig& other, const std::vector<std::int64_t>& lengths) {
    for (const std::int64_t length : lengths) {
      for (const Padding padding : {Padding::none, Padding::holes, Padding::left}) {
        SCOPED_TRACE(describe(one) + " and " + describe(other) + ", " + std::to_string(length) + " tokens");
        const Batch batch = random_batch(other, 2, length, 91, padding);
        EXPECT_TRUE(same_bits(run<Real>(one, batch), run<Real>(other, batch), one.hidden_dim));
      }
    }
  }
};
TYPED_TEST_SUITE(Equivalence, Reals, RealNames);

/// A team that takes a chunk as a whole writes results only when it has read all keys.
TYPED_TEST(Equivalence, of_results_that_are_written_over_keys_and_others) {
  const auto most = static_cast<std::int64_t>(kernels::most_queries_of_team<TypeParam>(5, 5));
  for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{5}, std::int64_t{64}, std::int64_t{100}, most}) {
    if (chunk > most) continue;
    for (const ModelConfig& config : variants_of(Architecture::bsbr, sizes_with_chunks_of(chunk))) {
      for (const std::int64_t length : {std::int64_t{1}, chunk + 1, 4 * chunk + 31}) {
        for (const auto& mask : {reference::Mask{}, random_mask(length, 0.3, 5)}) {
          const auto numbers = random_attention(config, length, 17);
          const auto separate = run_attention<TypeParam>(config, numbers, mask, MPI_COMM_WORLD);
          const auto over_keys = run_attention<TypeParam>(config, numbers, mask, MPI_COMM_WORLD, Output::over_keys);
          ASSERT_TRUE(same_bits(over_keys, separate, config.attention_dim()))
              << describe(config) << ", " << length << " tokens";
        }
      }
    }
  }
}

// A test of the implementation: another kernel may promise more, or less, and then this changes with it.
TYPED_TEST(Equivalence, holds_over_keys_where_it_is_promised_only) {
  const auto most = static_cast<std::int64_t>(kernels::most_queries_of_team<TypeParam>(5, 5));
  const auto promised = [](const ModelConfig& config) {
    return Attention<TypeParam>::create(config, Sequence(MPI_COMM_WORLD, 1, 9, config.chunk_size))->output_may_be_key();
  };
  EXPECT_TRUE(promised(sizes_with_chunks_of(most)));
  EXPECT_FALSE(promised(sizes_with_chunks_of(most + 1)));
  for (const auto& entry : architectures) {
    if (entry.value == Architecture::bsbr) continue;
    EXPECT_FALSE(promised(variants_of(entry.value, sizes_with_chunks_of(8)).front())) << entry.name;
  }
}

TYPED_TEST(Equivalence, of_a_window_as_long_as_the_sequence_and_standard_attention) {
  for (const std::int64_t length : {1, 33, 150}) {
    ModelConfig window = variants_of(Architecture::sliding_window, sizes_with_chunks_of(5)).front();
    for (const std::int64_t size :
         {length - 1, length, length + 70, endless_window, std::int64_t{4'000'000'000'000'000'000}}) {
      window.window_size = size;
      this->expect_same(window, standard_with(sizes_with_chunks_of(5)), {length});
    }
  }
}

TYPED_TEST(Equivalence, ends_where_the_window_is_one_token_shorter) {
  ModelConfig window = variants_of(Architecture::sliding_window, sizes_with_chunks_of(5)).front();
  window.window_size = 31;
  const Batch batch = random_batch(window, 1, 33, 91);
  EXPECT_FALSE(same_bits(run<TypeParam>(window, batch), run<TypeParam>(standard_with(sizes_with_chunks_of(5)), batch),
                         window.hidden_dim));
}

TYPED_TEST(Equivalence, of_hopfield_with_temperature_one_and_standard_attention) {
  ModelConfig hopfield = variants_of(Architecture::hopfield, sizes_with_chunks_of(5)).front();
  hopfield.temperature = 1;
  this->expect_same(hopfield, standard_with(sizes_with_chunks_of(5)), {1, 33, 150});
}

/// In one chunk nothing is retrieved.
TYPED_TEST(Equivalence, of_one_causal_chunk_of_bsbr_and_standard_attention) {
  for (const std::int64_t head_dim : {5, 7, 64}) {
    for (const std::int64_t chunk_size : {std::int64_t{150}, std::int64_t{1} << 30}) {
      for (const ModelConfig& config : variants_of(Architecture::bsbr, sizes_with_chunks_of(chunk_size, head_dim))) {
        if (!is_causal(config)) continue;
        for (const std::int64_t length : {1, 33, 150}) {
          for (const Padding padding : {Padding::none, Padding::holes, Padding::left}) {
            SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens");
            const AttentionNumbers numbers = random_attention(config, length, 92);
            const auto mask = make_mask(padding, 1, length, 5);
            const auto one_chunk = run_attention<TypeParam>(config, numbers, mask, MPI_COMM_WORLD);
            const auto standard = run_attention<TypeParam>(standard_with(config), numbers, mask, MPI_COMM_WORLD);
            EXPECT_TRUE(same_bits(one_chunk, standard, config.hidden_dim));
          }
        }
      }
    }
  }
}

// ---- The chunk as a tile --------------------------------------------------------------------------------------------

/// However ranks share out the tokens.
TYPED_TEST(Equivalence, of_all_chunk_sizes_where_the_chunk_is_only_a_tile) {
  constexpr std::int64_t length = 3 * kernels::tuning::state_tile + 19;
  for (const ModelConfig& one : variants(sizes_with_chunks_of(5), std::not_fn(depends_on_chunks))) {
    for (const Padding padding : {Padding::none, Padding::holes}) {
      const Batch batch = random_batch(one, 2, length, 93, padding);
      const auto expected = run<TypeParam>(one, batch);
      for (const std::int64_t chunk_size : {1, 24, 64, 100, 4096}) {
        ModelConfig other = one;
        other.chunk_size = chunk_size;
        EXPECT_TRUE(same_bits(run<TypeParam>(other, batch), expected, one.hidden_dim)) << describe(other);
      }
    }
  }
}

/// The test above can fail.
TYPED_TEST(Equivalence, of_all_chunk_sizes_is_not_that_of_architectures_that_depend_on_chunks) {
  for (const ModelConfig& one : variants(sizes_with_chunks_of(5), depends_on_chunks)) {
    ModelConfig other = one;
    other.chunk_size = 7;
    const Batch batch = random_batch(one, 1, 40, 94);
    EXPECT_FALSE(same_bits(run<TypeParam>(other, batch), run<TypeParam>(one, batch), one.hidden_dim)) << describe(one);
  }
}

}  // namespace
}  // namespace bsbr::testing
