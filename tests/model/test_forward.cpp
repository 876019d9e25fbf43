// Calling a model and a layer: rightly, in changing shapes, and wrongly on one rank only.
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "bsbr/error.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

ModelConfig plain_bsbr() { return small_config(Architecture::bsbr); }

template <class Real>
class Forward : public ::testing::Test {
 protected:
  void expect_as_new(Model<Real>& used, MPI_Comm comm, const Batch& batch) {
    const auto actual = run_model(used, comm, batch);
    EXPECT_TRUE(same_bits(actual, run_alone<Real>(used.config(), batch), used.config().hidden_dim))
        << "[" << batch.batch << ", " << batch.length << "]";
  }
};
TYPED_TEST_SUITE(Forward, Reals, RealNames);

TYPED_TEST(Forward, gives_the_same_bits_again_and_again) {
  for (const ModelConfig& config : variants(plain_bsbr())) {
    auto model = random_model<TypeParam>(config);
    const Sequence sequence(MPI_COMM_WORLD, 2, 33, config.chunk_size);
    const auto ids = local_part<std::int32_t>(sequence, random_ids(2 * 33, config.vocab_size, 71));
    const auto first = model.forward(Execution(), sequence, ids), second = model.forward(Execution(), sequence, ids);
    EXPECT_TRUE(same_bits(gather_tokens(sequence, second), gather_tokens(sequence, first), config.hidden_dim))
        << describe(config);
    EXPECT_TRUE(first.size() == 0 || first.data() != second.data());  // the caller's, not overwritten by the next call
  }
}

TYPED_TEST(Forward, serves_one_shape_after_the_other) {
  for (const ModelConfig& config : variants(plain_bsbr())) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    for (const auto& [batch, length] :
         {std::pair<int, int>{1, 33}, {3, 33}, {1, 7}, {1, 300}, {2, 0}, {1, 1}, {1, 33}}) {
      this->expect_as_new(model, MPI_COMM_WORLD, random_batch(config, batch, length, 72));
      this->expect_as_new(model, MPI_COMM_WORLD, random_batch(config, batch, length, 73, Padding::holes));
    }
  }
}

TYPED_TEST(Forward, serves_sequences_that_ranks_share_otherwise) {
  const ModelConfig config = small_config(Architecture::bsbr);
  const Batch batch = random_batch(config, 1, 4 * config.chunk_size, 5);
  auto model = random_model<TypeParam>(config);
  const auto expected = run_alone<TypeParam>(config, batch);
  for (const std::int64_t together : {1, 3, 1, 2}) {
    const Sequence sequence(MPI_COMM_WORLD, 1, batch.length, config.chunk_size, 0, together);
    const auto states = model.forward(Execution(), sequence, local_part<std::int32_t>(sequence, batch.ids));
    EXPECT_TRUE(same_bits(gather_tokens(sequence, states), expected, config.hidden_dim)) << together;
  }
}

TYPED_TEST(Forward, serves_one_communicator_after_the_other) {
  for (const ModelConfig& config : variants(plain_bsbr())) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 2, 33, 74);
    for (const MPI_Comm comm : {MPI_COMM_WORLD, MPI_COMM_SELF, MPI_COMM_WORLD}) this->expect_as_new(model, comm, batch);
  }
}

TYPED_TEST(Forward, takes_a_mask_once_and_none_the_next_time) {
  for (const ModelConfig& config : variants(plain_bsbr())) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    const Sequence sequence(MPI_COMM_WORLD, 1, 33, config.chunk_size);
    const Batch padded = random_batch(config, 1, 33, 75, Padding::left);
    Batch whole = padded;
    whole.mask.clear();
    const auto ids = local_part<std::int32_t>(sequence, padded.ids);
    const auto expect = [&](const Array<TypeParam***>& states, const Batch& batch) {
      EXPECT_TRUE(same_bits(gather_tokens(sequence, states), run_alone<TypeParam>(config, batch), config.hidden_dim));
    };
    expect(model.forward(Execution(), sequence, ids), whole);
    expect(model.forward(Execution(), sequence, ids, local_part<std::uint8_t>(sequence, padded.mask)), padded);
    expect(model.forward(Execution(), sequence, ids), whole);
  }
}

TYPED_TEST(Forward, of_two_models_do_not_disturb_each_other) {
  const auto configs = variants(plain_bsbr());
  for (std::size_t i = 0; i + 1 < configs.size(); ++i) {
    SCOPED_TRACE(describe(configs[i]) + " and " + describe(configs[i + 1]));
    auto one = random_model<TypeParam>(configs[i]), two = random_model<TypeParam>(configs[i + 1]);
    for (int round = 0; round < 2; ++round) {
      this->expect_as_new(one, MPI_COMM_WORLD, random_batch(configs[i], 1, 33, 76));
      this->expect_as_new(two, MPI_COMM_WORLD, random_batch(configs[i + 1], 2, 21, 77));
    }
  }
}

/// The phases of the attention: those whose operations are counted, but for that of the layer around it.
std::set<std::string> phases_of(const ModelConfig& config) {
  std::set<std::string> phases;
  for (const auto& entry : traits(config.architecture).flops(config, FlopSizes(config, 33))) phases.insert(entry.first);
  phases.erase("project");
  return phases;
}

TYPED_TEST(Forward, fills_the_profile) {
  for (const ModelConfig& config : variants(plain_bsbr())) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    Profile profile;
    run_model(model, MPI_COMM_WORLD, random_batch(config, 1, 33, 78), &profile);
    std::set<std::string> expected{"embedding", "project", "finish", "final_norm"};
    expected.merge(phases_of(config));
    const bool moves_nothing = traits(config.architecture).window(config) == 0;
    if (world_ranks() > 1) expected.insert("agreement");
    if (world_ranks() > 1 && !moves_nothing) expected.insert("exchange");
    std::set<std::string> found;
    for (const auto& [phase, seconds] : profile.seconds) {
      found.insert(phase);
      EXPECT_GE(seconds, 0) << phase;
    }
    EXPECT_EQ(found, expected);
  }
}

TYPED_TEST(Forward, tells_its_progress_layer_by_layer_and_phase_by_phase) {
  for (const ModelConfig& config : variants(plain_bsbr())) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    Profile profile;
    std::vector<ForwardProgress> told;
    profile.progress = [&](const ForwardProgress& now) { told.push_back(now); };
    run_model(model, MPI_COMM_WORLD, random_batch(config, 1, 33, 78), &profile);
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.front().phase, "embedding");
    EXPECT_EQ(told.front().share, 0);
    EXPECT_EQ(told.back().phase, "");
    EXPECT_EQ(told.back().share, 1);
    EXPECT_EQ(told.back().layer, config.num_layers);
    std::set<std::string> begun;
    std::vector<std::int64_t> layers_projected, layers_finished;
    for (std::size_t i = 0; i < told.size(); ++i) {
      EXPECT_EQ(told[i].num_layers, config.num_layers);
      if (i > 0) {
        EXPECT_GE(told[i].share, told[i - 1].share) << told[i].phase;
      }
      if (told[i].phase == "project") {
        layers_projected.push_back(told[i].layer);
        EXPECT_DOUBLE_EQ(told[i].share, static_cast<double>(told[i].layer) / static_cast<double>(config.num_layers));
      }
      if (told[i].phase == "finish") layers_finished.push_back(told[i].layer);
      if (!told[i].phase.empty()) begun.insert(told[i].phase);
    }
    std::vector<std::int64_t> all(static_cast<std::size_t>(config.num_layers));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    EXPECT_EQ(layers_projected, all);
    EXPECT_EQ(layers_finished, all);
    std::set<std::string> timed;
    for (const auto& phase : profile.seconds) timed.insert(phase.first);
    EXPECT_EQ(begun, timed);
    EXPECT_FALSE(profile.phase_begins);
  }
}

/// What the last phase of a layer adds is what forward_flops_by_phase says of it.
TYPED_TEST(Forward, progress_goes_by_useful_operations) {
  const ModelConfig config = plain_bsbr();
  auto model = random_model<TypeParam>(config);
  Profile profile;
  double at_finish = -1;
  profile.progress = [&](const ForwardProgress& now) {
    if (now.phase == "finish" && now.layer == 0) at_finish = now.share;
  };
  run_model(model, MPI_COMM_WORLD, random_batch(config, 1, 33, 78), &profile);
  const double finish = forward_flops_by_phase(config, 1, 33).at("finish") / forward_flops(config, 1, 33);
  EXPECT_NEAR(at_finish, (1 - finish) / static_cast<double>(config.num_layers), 1e-12);
}

/// Ranks need not agree on who listens: it is no collective.
TYPED_TEST(Forward, progress_may_be_told_on_one_rank_alone) {
  const ModelConfig config = plain_bsbr();
  auto model = random_model<TypeParam>(config);
  const Batch batch = random_batch(config, 1, 33, 78);
  const auto expected = run_model(model, MPI_COMM_WORLD, batch);
  Profile profile;
  int calls = 0;
  if (world_rank() == 0) profile.progress = [&](const ForwardProgress&) { ++calls; };
  EXPECT_EQ(run_model(model, MPI_COMM_WORLD, batch, world_rank() == 0 ? &profile : nullptr), expected);
  EXPECT_EQ(calls > 0, world_rank() == 0);
}

// ---- Wrong calls ----------------------------------------------------------------------------------------------------

/// What a forward is given on this rank.
struct Call {
  Array<const std::int32_t**> ids;
  std::optional<Array<const std::uint8_t**>> mask;
};

template <class Real>
class WrongCall : public ::testing::Test {
 protected:
  WrongCall()
      : m_sequence(MPI_COMM_WORLD, 2, 33, m_config.chunk_size), m_expected(run_alone<Real>(m_config, m_batch)) {}

  Call right_call() const {
    return {local_part<std::int32_t>(m_sequence, m_batch.ids), local_part<std::uint8_t>(m_sequence, m_batch.mask)};
  }

  /// The message of the ShapeError that all ranks get if one of them calls wrongly.
  std::string message_of(int culprit, const std::function<void(Call&)>& spoil) {
    Call call = right_call();
    if (world_rank() == culprit) spoil(call);
    try {
      m_model.forward(Execution(), m_sequence, call.ids, call.mask);
    } catch (const ShapeError& error) {
      return error.what();
    }
    return "nothing was thrown";
  }

  /// Each rank in turn calls wrongly: all throw the same, before and after the model has its workspace; and it works
  /// afterwards.
  void expect_refused(const std::function<void(Call&)>& spoil, const std::string& message) {
    for (int culprit = 0; culprit < world_ranks(); ++culprit) {
      SCOPED_TRACE("rank " + std::to_string(culprit));
      const std::string actual = message_of(culprit, spoil);
      EXPECT_NE(actual.find(message), std::string::npos) << actual;
      expect_usable();
    }
  }

  void expect_usable() {
    const Call call = right_call();
    const auto states = m_model.forward(Execution(), m_sequence, call.ids, call.mask);
    EXPECT_TRUE(same_bits(gather_tokens(m_sequence, states), m_expected, m_config.hidden_dim));
  }

  /// A copy of a part with another number in its last place (nothing in an empty part).
  template <class Value>
  static Array<const Value**> with_last(const Array<const Value**>& part, Value value) {
    const Array<Value**> copy("test::copy", part.extent(0), part.extent(1));
    Kokkos::deep_copy(copy, part);
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), copy);
    host(part.extent(0) - 1, part.extent(1) - 1) = value;
    Kokkos::deep_copy(copy, host);
    return copy;
  }

  ModelConfig m_config = plain_bsbr();
  Batch m_batch = random_batch(m_config, 2, 33, 81, Padding::holes);
  Sequence m_sequence;
  Model<Real> m_model = random_model<Real>(m_config);
  std::vector<Real> m_expected;
};
TYPED_TEST_SUITE(WrongCall, Reals, RealNames);

TYPED_TEST(WrongCall, with_an_id_outside_the_vocabulary_is_refused_on_all_ranks) {
  for (const std::int32_t id : {-1, 31, 1 << 30}) {
    this->expect_refused([id](Call& call) { call.ids = TestFixture::with_last(call.ids, id); },
                         "1 ids are not within 0 to 30");
  }
}

TYPED_TEST(WrongCall, with_other_extents_of_ids_is_refused_on_all_ranks) {
  const std::size_t tokens = this->right_call().ids.extent(1);
  this->expect_refused([&](Call& call) { call.ids = Array<std::int32_t**>("test::ids", 2, tokens + 1); },
                       "ids are [2, ");
  this->expect_refused([&](Call& call) { call.ids = Array<std::int32_t**>("test::ids", 1, tokens); }, "ids are [1, ");
  this->expect_refused([&](Call& call) { call.ids = {}; }, "ids are [0, 0], this rank's part of the sequence [2, ");
}

TYPED_TEST(WrongCall, with_other_extents_of_the_mask_is_refused_on_all_ranks) {
  const std::size_t tokens = this->right_call().ids.extent(1);
  this->expect_refused([&](Call& call) { call.mask = Array<std::uint8_t**>("test::mask", 2, tokens + 1); },
                       "mask is [2, ");
  this->expect_refused([&](Call& call) { call.mask = Array<std::uint8_t**>("test::mask", 3, tokens); }, "mask is [3, ");
}

TYPED_TEST(WrongCall, with_another_mask_value_is_refused_on_all_ranks) {
  for (const std::uint8_t value : {std::uint8_t{2}, std::uint8_t{255}}) {
    this->expect_refused([value](Call& call) { call.mask = TestFixture::with_last(*call.mask, value); },
                         "mask has 1 values other than 0 and 1");
  }
}

TYPED_TEST(WrongCall, with_a_mask_on_some_ranks_only_is_refused_on_all_ranks) {
  if (world_ranks() == 1) GTEST_SKIP() << "there are no other ranks";
  this->expect_refused([](Call& call) { call.mask.reset(); }, std::to_string(world_ranks() - 1) + " of " +
                                                                  std::to_string(world_ranks()) + " ranks have a mask");
}

TYPED_TEST(WrongCall, with_parts_that_were_made_for_another_sequence_is_refused) {
  const Execution execution;
  const Sequence other(MPI_COMM_WORLD, 2, 33 + 5 * world_ranks(), this->m_config.chunk_size);
  const Array<TypeParam***> x("test::x", 2, static_cast<std::size_t>(this->m_sequence.local_tokens()), 12);
  Workspace<TypeParam> workspace(this->m_config, this->m_sequence);
  const Layer<TypeParam> layer(this->m_model.weights(), 0);
  EXPECT_THROW(layer.forward(execution, PaddingMask(execution, other), workspace, x), ShapeError);
  ModelConfig chunks = this->m_config;
  chunks.chunk_size += 1;
  EXPECT_THROW(Attention<TypeParam>::create(chunks, this->m_sequence), ShapeError);
}

TYPED_TEST(WrongCall, with_another_chunk_size_is_refused) {
  const Sequence other(MPI_COMM_WORLD, 2, 33, 6);
  try {
    this->m_model.forward(Execution(), other, local_part<std::int32_t>(other, this->m_batch.ids));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "the sequence has chunk_size = 6, the model has chunk_size = 5");
  }
  this->expect_usable();
}

TYPED_TEST(WrongCall, in_a_new_shape_leaves_the_model_usable_in_both) {
  this->expect_usable();
  const Sequence longer(MPI_COMM_WORLD, 1, 70, this->m_config.chunk_size);
  const Batch batch = random_batch(this->m_config, 1, 70, 82);
  const auto right = local_part<std::int32_t>(longer, batch.ids);
  const auto wrong = world_rank() == 0 ? TestFixture::with_last(Array<const std::int32_t**>(right), -5) : right;
  EXPECT_THROW(this->m_model.forward(Execution(), longer, wrong), ShapeError);
  const auto states = gather_tokens(longer, this->m_model.forward(Execution(), longer, right));
  EXPECT_TRUE(same_bits(states, run_alone<TypeParam>(this->m_config, batch), this->m_config.hidden_dim));
  this->expect_usable();
}

// ---- Layers ---------------------------------------------------------------------------------------------------------

TYPED_TEST(WrongCall, of_a_layer_that_is_not_there_is_refused) {
  const auto& weights = this->m_model.weights();
  EXPECT_NO_THROW(Layer<TypeParam>(weights, 1));
  EXPECT_THROW(Layer<TypeParam>(weights, 2), ConfigError);
  EXPECT_THROW(Layer<TypeParam>(weights, -1), ConfigError);
}

TYPED_TEST(WrongCall, of_a_layer_with_other_extents_is_refused_on_all_ranks) {
  const Layer<TypeParam> layer(this->m_model.weights(), 0);
  Workspace<TypeParam> workspace(this->m_config, this->m_sequence);
  const PaddingMask mask(Execution(), this->m_sequence);
  const auto tokens = static_cast<std::size_t>(this->m_sequence.local_tokens()), width = std::size_t{12};
  for (int culprit = 0; culprit < world_ranks(); ++culprit) {
    const std::size_t more = world_rank() == culprit ? 1 : 0;
    for (const auto& x : {Array<TypeParam***>("test::x", 2 + more, tokens, width),
                          Array<TypeParam***>("test::x", 2, tokens + more, width),
                          Array<TypeParam***>("test::x", 2, tokens, width + more)}) {
      EXPECT_THROW(layer.forward(Execution(), mask, workspace, x), ShapeError);
    }
  }
  EXPECT_NO_THROW(layer.forward(Execution(), mask, workspace, Array<TypeParam***>("test::x", 2, tokens, width)));
  Execution().fence();
}

TYPED_TEST(WrongCall, of_a_layer_with_states_in_its_workspace_is_refused) {
  const Layer<TypeParam> layer(this->m_model.weights(), 0);
  Workspace<TypeParam> workspace(this->m_config, this->m_sequence);
  const PaddingMask mask(Execution(), this->m_sequence);
  const auto& heads = workspace.heads;
  ASSERT_EQ(heads.extent(2), 12U);
  for (const auto& x :
       {heads, Array<TypeParam***>(workspace.projections.data(), heads.extent(0), heads.extent(1), heads.extent(2))}) {
    try {
      layer.forward(Execution(), mask, workspace, x);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const ShapeError& error) {
      EXPECT_STREQ(error.what(), "x overlaps workspace.projections");  // heads are the keys here
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
