// A forward of later tokens, from the state that one of the earlier tokens has left, has the bits of one of all. Runs
// on three ranks, of which the first 1, 2 and 3 work together, and on one with many threads.
#include <gtest/gtest.h>

#include "kernels/tuning.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t segment = kernels::tuning::scan_segment;

bool goes_on(const ModelConfig& config) { return has_its_own_way(config) && is_causal(config); }

/// Hidden states of the whole batch, in pieces that end at `ends`, on the first ranks of the world.
template <class Real>
std::vector<Real> run_in_pieces(Model<Real>& model, MPI_Comm comm, const Batch& batch,
                                const std::vector<std::int64_t>& ends) {
  const std::int64_t hidden = model.config().hidden_dim;
  std::vector<Real> whole(static_cast<std::size_t>(batch.batch * batch.length * hidden));
  std::vector<AttentionState<Real>> states;
  std::int64_t begin = 0;
  for (const std::int64_t end : ends) {
    const auto piece = run_model(model, comm, batch.piece(begin, end), nullptr, begin, &states);
    for (std::int64_t row = 0; row < batch.batch; ++row) {
      const auto from = piece.begin() + row * (end - begin) * hidden;
      std::copy(from, from + (end - begin) * hidden, whole.begin() + (row * batch.length + begin) * hidden);
    }
    begin = end;
  }
  return whole;
}

template <class Real>
void expect_same_bits(const ModelConfig& config, const Batch& batch, const std::vector<std::int64_t>& ends) {
  SCOPED_TRACE(describe(config) + ", ends " + ::testing::PrintToString(ends));
  auto model = random_model<Real>(config);
  const auto whole = run_model(model, MPI_COMM_SELF, batch);
  for (int count = 1; count <= world_ranks(); ++count) {
    const FirstRanks ranks(count);
    if (!ranks.has_this()) continue;
    const auto pieces = run_in_pieces(model, ranks.comm(), batch, ends);
    EXPECT_TRUE(same_bits(pieces, whole, config.hidden_dim)) << count << " ranks";
  }
}

template <class Real>
class Streams : public ::testing::Test {};
TYPED_TEST_SUITE(Streams, Reals, RealNames);

/// Pieces that end with a chunk, within one, within a step, with a segment and within one; of one token; of none.
TYPED_TEST(Streams, in_pieces_have_the_bits_of_the_whole) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.num_layers = 2;
  for (const ModelConfig& config : variants(sizes, goes_on)) {
    const auto batch = random_batch(config, 2, 133, 61);
    expect_same_bits<TypeParam>(config, batch, {50, 133});
    expect_same_bits<TypeParam>(config, batch, {64, 65, 65, 128, 133});
    expect_same_bits<TypeParam>(config, batch, {1, 2, 3, 7, 133});
  }
}

TYPED_TEST(Streams, in_pieces_have_the_bits_of_the_whole_with_padding) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr), goes_on)) {
    for (const auto& padding : paddings)
      expect_same_bits<TypeParam>(config, random_batch(config, 3, 77, 62, padding.value), {20, 33, 77});
  }
}

TYPED_TEST(Streams, of_several_segments_have_the_bits_of_the_whole) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.num_layers = 1;
  for (const ModelConfig& variant : variants(sizes, goes_on)) {
    if (traits(variant.architecture).transfer != Transfer::state) continue;
    ModelConfig config = variant;
    config.chunk_size = 48;
    const auto batch = random_batch(config, 1, 7 * segment + 77, 63, Padding::holes);
    expect_same_bits<TypeParam>(config, batch, {segment, 4 * segment, 7 * segment + 77});
    expect_same_bits<TypeParam>(config, batch,
                                {segment / 2, segment - 7, 3 * segment + 100, 5 * segment, 7 * segment + 77});
  }
}

/// More chunks than a tile has keys, and than there was room for; more ranks than blocks.
TYPED_TEST(Streams, of_many_chunks_have_the_bits_of_the_whole) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.num_layers = 1;
  sizes.num_heads = 2;
  for (ModelConfig config : variants_of(Architecture::bsbr, sizes)) {
    if (!is_causal(config)) continue;
    config.chunk_size = 2;
    for (const auto padding : {Padding::none, Padding::holes}) {
      const auto batch = random_batch(config, 2, 701, 64, padding);
      expect_same_bits<TypeParam>(config, batch, {300, 301, 302, 500, 701});
      expect_same_bits<TypeParam>(config, batch, {1, 256, 511, 513, 701});
    }
  }
}

/// What a model of this configuration keeps of a batch, on this process alone.
template <class Real>
std::vector<AttentionState<Real>> states_of(const ModelConfig& config, const Batch& batch) {
  auto model = random_model<Real>(config);
  std::vector<AttentionState<Real>> states;
  run_model(model, MPI_COMM_SELF, batch, nullptr, 0, &states);
  return states;
}

TYPED_TEST(Streams, refuse_states_of_other_tokens_batches_and_sizes) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr), goes_on)) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    const auto batch = random_batch(config, 2, 33, 65);
    const auto run = [&](const Batch& later, std::int64_t origin, auto states) {
      run_model(model, MPI_COMM_SELF, later, nullptr, origin, &states);
    };
    const auto states = states_of<TypeParam>(config, batch.prefix(17));
    EXPECT_NO_THROW(run(batch.piece(17, 33), 17, states));
    EXPECT_THROW(run(batch.piece(18, 33), 18, states), ShapeError);
    EXPECT_THROW(run(batch.piece(17, 33), 17, std::vector<AttentionState<TypeParam>>{}), ShapeError);
    if (states.front().keys.size() == 0 && states.front().sums.size() == 0)
      continue;  // a window of 0: there is nothing
    EXPECT_THROW(run(random_batch(config, 3, 16, 66), 17, states), ShapeError);
    ModelConfig wider = config;
    wider.hidden_dim *= 2;
    EXPECT_THROW(run(batch.piece(17, 33), 17, states_of<TypeParam>(wider, batch.prefix(17))), ShapeError);
  }
}

TYPED_TEST(Streams, are_refused_where_tokens_see_later_ones) {
  const auto sees_later = [](const ModelConfig& config) { return has_its_own_way(config) && !is_causal(config); };
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr), sees_later)) {
    SCOPED_TRACE(describe(config));
    EXPECT_THROW(states_of<TypeParam>(config, random_batch(config, 1, 20, 67)), ShapeError);
  }
}

}  // namespace
}  // namespace bsbr::testing
