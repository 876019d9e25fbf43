// How much memory a model takes: what workspace_bytes says, against what Kokkos allocates.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>

#include "attention/attention.hpp"
#include "bsbr/model.hpp"
#include "kernels/tuning.hpp"
#include "support/allocations.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

/// What no prediction counts: a few bytes per chunk, and a host's copies of messages where MPI cannot take those of a
/// GPU.
const std::vector<std::string> uncounted{"bsbr::mask::", "bsbr::parallel::staged"};

/// All variants at several sizes.
std::vector<ModelConfig> configs() {
  std::vector<ModelConfig> all;
  const auto add = [&](const ModelConfig& sizes, const auto& which) {
    for (const ModelConfig& config : variants(sizes, which)) all.push_back(config);
  };
  const auto every = [](const ModelConfig&) { return true; };
  const auto is_compressed = [](const ModelConfig& config) { return compresses_states(config); };
  ModelConfig small = small_config(Architecture::bsbr), wide = small;
  wide.hidden_dim = 75;  // 625 numbers in a state: two blocks of unequal size
  wide.chunk_size = 64;
  wide.ff_dim = 1;
  for (ModelConfig* sizes : {&small, &wide}) {
    add(*sizes, every);
    for (const std::int64_t compression : {1, 5, 12}) {
      sizes->compression_factor = compression;
      add(*sizes, is_compressed);
    }
  }
  small.ff_dim = 1000;
  add(small, has_its_own_way);
  ModelConfig shared = small_config(Architecture::bsbr);
  shared.num_heads = 1;  // one block of states, which several ranks share
  for (const std::int64_t chunk_size : {1, 64}) {
    shared.chunk_size = chunk_size;
    add(shared,
        [](const ModelConfig& config) { return traits(config.architecture).transfer == Transfer::chunk_states; });
  }
  return all;
}

/// Those that a model of this type may have.
template <class Real>
std::vector<Rounding> roundings() {
  if constexpr (std::is_same_v<Real, float>) return {Rounding::none, Rounding::bfloat16};
  return {Rounding::none};
}

template <class Real>
class Memory : public ::testing::Test {};
TYPED_TEST_SUITE(Memory, Reals, RealNames);

/// Calls check(config, sequence) for all configurations and several shapes.
template <class Check>
void for_each_shape(const Check& check) {
  for (const ModelConfig& config : configs()) {
    for (const std::int64_t batch : {1, 3}) {
      for (const std::int64_t length : {0, 1, 64, 331}) {
        SCOPED_TRACE(describe(config) + ", [" + std::to_string(batch) + ", " + std::to_string(length) + "]");
        check(config, Sequence(MPI_COMM_WORLD, batch, length, config.chunk_size));
      }
    }
  }
}

TYPED_TEST(Memory, of_a_workspace_and_a_hidden_state_is_what_workspace_bytes_says) {
  for_each_shape([](const ModelConfig& config, const Sequence& sequence) {
    const auto states =
        sequence.batch() * sequence.local_tokens() * config.hidden_dim * static_cast<std::int64_t>(sizeof(TypeParam));
    for (const Rounding rounding : roundings<TypeParam>()) {
      const AllocationRecorder recorder;
      const Workspace<TypeParam> workspace(config, sequence, rounding);
      expect_predicted(workspace_bytes<TypeParam>(config, sequence, rounding) - states, recorder.without(uncounted));
    }
  });
}

TYPED_TEST(Memory, of_an_attention_is_what_its_workspace_bytes_says) {
  for_each_shape([](const ModelConfig& config, const Sequence& sequence) {
    for (const Rounding rounding : roundings<TypeParam>()) {
      const AllocationRecorder recorder;
      const auto attention = Attention<TypeParam>::create(config, sequence, rounding);
      expect_predicted(attention->workspace_bytes(), recorder.without(uncounted));
      EXPECT_EQ(attention->workspace_bytes(), attention::workspace_bytes<TypeParam>(config, sequence, rounding));
    }
  });
}

/// Of a layer of bsbr, D = 512, B = 128: x, queries, keys and values in 16 bits, states, r and h.
TEST(MemoryOfAToken, in_bfloat16_is_at_most_6_5_kib) {
  ModelConfig config = small_config(Architecture::bsbr);
  config.hidden_dim = 512;
  config.num_heads = 8;
  config.chunk_size = 128;
  const auto bytes = [&](std::int64_t tokens) {
    return workspace_bytes<float>(config, Sequence(MPI_COMM_SELF, 1, tokens, config.chunk_size), Rounding::bfloat16);
  };
  constexpr std::int64_t many = 1 << 17;  // the buffer of mixed states grows no longer
  if (!packs_rows<float>(config, Rounding::bfloat16)) GTEST_SKIP() << "queries, keys and values are float on a GPU";
  EXPECT_LE(static_cast<double>(bytes(2 * many) - bytes(many)) / many, 6.5 * 1024);
}

TYPED_TEST(Memory, of_a_first_forward_is_what_workspace_bytes_says) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    SCOPED_TRACE(describe(config));
    const Batch batch = random_batch(config, 2, 331, 61, Padding::holes);
    const Sequence sequence(MPI_COMM_WORLD, batch.batch, batch.length, config.chunk_size);
    for (const Rounding rounding : roundings<TypeParam>()) {
      auto weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
      weights.set_rounding(rounding);
      Model<TypeParam> model(weights);
      run_model(model, MPI_COMM_WORLD, random_batch(config, 1, 33, 62));  // Kokkos' own scratch memory exists
      const AllocationRecorder recorder;
      run_model(model, MPI_COMM_WORLD, batch);
      expect_predicted(workspace_bytes<TypeParam>(config, sequence, rounding),
                       recorder.without({"bsbr::mask::", "bsbr::parallel::staged", "test::"}));
    }
  }
}

TYPED_TEST(Memory, is_kept_for_the_next_forward_of_the_same_shape) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    const Sequence sequence(MPI_COMM_WORLD, 2, 131, config.chunk_size);
    const Batch batch = random_batch(config, 2, 131, 63, Padding::holes);
    const auto ids = local_part<std::int32_t>(sequence, batch.ids);
    const auto mask = local_part<std::uint8_t>(sequence, batch.mask);
    const auto allocations_of = [&](const auto&... padding) {
      const AllocationRecorder recorder;
      model.forward(Execution(), sequence, ids, padding...);
      return recorder.without(sizeof...(padding) > 0 ? std::vector<std::string>{"bsbr::mask::"}
                                                     : std::vector<std::string>());
    };
    allocations_of(mask);
    allocations_of();
    for (int round = 0; round < 2; ++round) {
      EXPECT_TRUE(allocations_of().empty()) << ::testing::PrintToString(allocations_of());
      EXPECT_TRUE(allocations_of(mask).empty()) << ::testing::PrintToString(allocations_of(mask));
    }
  }
}

TYPED_TEST(Memory, of_hidden_states_that_the_caller_keeps_is_left_alone) {
  const ModelConfig config = small_config(Architecture::bsbr);
  auto model = random_model<TypeParam>(config);
  const Sequence sequence(MPI_COMM_WORLD, 2, 131, config.chunk_size);
  const auto ids = [&](std::uint64_t seed) {
    return local_part<std::int32_t>(sequence, random_batch(config, 2, 131, seed).ids);
  };
  const auto first = model.forward(Execution(), sequence, ids(63));
  const auto before = gather_tokens(sequence, first);
  const auto second = model.forward(Execution(), sequence, ids(64));
  EXPECT_NE(second.data(), first.data());
  EXPECT_TRUE(same_bits(gather_tokens(sequence, first), before, config.hidden_dim));
}

TYPED_TEST(Memory, of_the_old_shape_is_given_back_before_the_new_is_taken) {
  const ModelConfig config = small_config(Architecture::bsbr);
  auto model = random_model<TypeParam>(config);
  const auto use_count = [&](std::int64_t length) {
    run_model(model, MPI_COMM_WORLD, random_batch(config, 1, length, 64));
    const AllocationRecorder recorder;
    run_model(model, MPI_COMM_WORLD, random_batch(config, 1, length, 64));  // another Sequence: another workspace
    return total_bytes(recorder.without({"bsbr::mask::", "bsbr::parallel::staged", "test::"}));
  };
  const auto small = use_count(50), large = use_count(5000);
  EXPECT_GT(large, small);
  EXPECT_EQ(use_count(50), small);
}

TEST(MemoryLabels, begin_with_bsbr) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    SCOPED_TRACE(describe(config));
    const Sequence sequence(MPI_COMM_WORLD, 1, 50, config.chunk_size);
    const AllocationRecorder recorder;
    const Model<float> model(random_weights<float>(config, 1));
    const Workspace<float> workspace(config, sequence);
    const PaddingMask mask(Execution(), sequence);
    for (const auto& allocation : recorder.without({}))
      EXPECT_EQ(allocation.label.rfind("bsbr::", 0), 0u) << allocation.label;
  }
}

/// What malloc has handed out to this process: bytes. 0 where it does not say, as under sanitizers.
std::int64_t heap_bytes() {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  const auto info = mallinfo2();
  return static_cast<std::int64_t>(info.uordblks + info.hblkhd);
#else
  return 0;
#endif
}

/// Sixteen times the layers take no more than sixteen times the memory, whatever is allocated: arrays, names, tables.
TYPED_TEST(Memory, of_a_model_grows_no_faster_than_its_layers) {
  for (ModelConfig config : variants(small_config(Architecture::bsbr), has_its_own_way)) {
    const auto bytes_of = [&](std::int64_t layers) {
      config.num_layers = layers;
      const std::int64_t before = heap_bytes();
      const Model<TypeParam> model(random_weights<TypeParam>(config, 1));
      return heap_bytes() - before;
    };
    bytes_of(1);  // whatever is allocated once
    const std::int64_t few = bytes_of(20), many = bytes_of(320);
    if (few == 0) GTEST_SKIP() << "malloc does not say what it has handed out";
    EXPECT_LT(many, 17 * few) << describe(config);
  }
}

/// The keys that earlier ranks have, and the states and sums of segments, are none where there is one rank and one
/// segment: what grows is what the tokens need. A test of the implementation: an attention that keeps something for a
/// backward pass, such as sums of the softmax, will need memory.
TYPED_TEST(Memory, of_attentions_other_than_bsbr_is_none_with_one_rank_and_one_segment) {
  const std::int64_t length = std::min<std::int64_t>(331, kernels::tuning::scan_segment / 2);
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    if (traits(config.architecture).transfer == Transfer::chunk_states) continue;
    const Sequence sequence(MPI_COMM_SELF, 2, length, config.chunk_size);
    EXPECT_EQ(Attention<TypeParam>::create(config, sequence)->workspace_bytes(), 0) << describe(config);
  }
}

/// One rank keeps some segments at a time, and a node for each level of their tree.
TYPED_TEST(Memory, of_running_states_on_one_rank_grows_with_the_logarithm_of_the_length_only) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    if (traits(config.architecture).transfer != Transfer::state) continue;
    const auto bytes_of = [&](std::int64_t segments) {
      const Sequence sequence(MPI_COMM_SELF, 2, segments * kernels::tuning::scan_segment, config.chunk_size);
      return Attention<TypeParam>::create(config, sequence)->workspace_bytes();
    };
    EXPECT_LT(bytes_of(16384), 3 * bytes_of(128)) << describe(config);
  }
}

}  // namespace
}  // namespace bsbr::testing
