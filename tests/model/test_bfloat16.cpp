// Models whose products have factors rounded to bfloat16: held against the reference, the same bits on any ranks and in
// any pieces, and what they refuse. Runs on three ranks, of which the first 1, 2 and 3 work together.
#include <gtest/gtest.h>

#include <cmath>

#include "bsbr/gradient.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/sampling.hpp"
#include "bsbr/stream.hpp"
#include "kernels/backend.hpp"
#include "support/bits.hpp"
#include "support/device_arrays.hpp"
#include "support/run_model.hpp"
#include "support/run_stream.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

ModelConfig sizes_of_test() {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.num_layers = 2;
  return sizes;
}

Weights<float> rounded_weights(const ModelConfig& config, const reference::WeightMap& map) {
  Weights<float> weights = to_weights<float>(config, map);
  weights.set_rounding(Rounding::bfloat16);
  return weights;
}

/// Of all sequences, [batch, tokens, hidden_dim].
std::vector<double> reference_states(const ModelConfig& config, const reference::WeightMap& map, const Batch& batch,
                                     Rounding rounding) {
  std::vector<double> all;
  for (std::int64_t row = 0; row < batch.batch; ++row) {
    const auto states =
        reference::forward(config, map, batch.row_ids(row), batch.row_mask(row), {}, rounding).hidden_states.values;
    all.insert(all.end(), states.begin(), states.end());
  }
  return all;
}

template <class A, class B>
double root_mean_square_difference(const std::vector<A>& a, const std::vector<B>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return std::sqrt(sum / static_cast<double>(a.size()));
}

/// All variants with heads of 4 elements, of whole vectors and an end, of 32, whose attention is that of matrices where
/// the CPU has AMX, and of an odd number, whose queries, keys and values are floats. chunk_size: of the second and
/// third ones.
std::vector<ModelConfig> all_variants(std::int64_t chunk_size) {
  ModelConfig small = sizes_of_test(), wide = small, odd = small;
  wide.hidden_dim = 22 * wide.num_heads;
  wide.chunk_size = chunk_size;
  ModelConfig of_matrices = wide;
  of_matrices.hidden_dim = 32 * of_matrices.num_heads;
  odd.hidden_dim = 5 * odd.num_heads;
  std::vector<ModelConfig> all;
  for (const ModelConfig& sizes : {small, wide, of_matrices, odd}) {
    for (const ModelConfig& config : variants(sizes)) all.push_back(config);
  }
  return all;
}

/// A number that lies between two of bfloat16 may be rounded to the other one than in the reference, since sums in
/// float differ from those in double. That is rare: the difference is a small part of what the rounding itself makes,
/// and a rounding that is left out, or is one too many, makes about as much as all others.
TEST(Bfloat16Model, has_the_hidden_states_of_the_reference) {
  if (world_rank() != 0) return;
  for (const ModelConfig& config : all_variants(sizes_of_test().chunk_size)) {
    SCOPED_TRACE(describe(config));
    // float has them exactly, so that the reference rounds the same numbers
    auto map = random_weight_map(config, 3);
    for (auto& [name, matrix] : map) {
      for (double& value : matrix.values) value = static_cast<double>(static_cast<float>(value));
    }
    const Batch batch = random_batch(config, 2, 3 * config.chunk_size + 2, 81, Padding::left);
    const auto exact = reference_states(config, map, batch, Rounding::none),
               rounded = reference_states(config, map, batch, Rounding::bfloat16);
    Model<float> model(rounded_weights(config, map));
    const auto states = run_model(model, MPI_COMM_SELF, batch);
    const double of_rounding = root_mean_square_difference(rounded, exact);
    EXPECT_GT(of_rounding, 1e-4);
    // A compressed state is a sum of many products, in which such numbers are more frequent.
    const double share = compresses_states(config) && config.head_dim() > 20 ? 0.4 : 0.2;
    EXPECT_LT(root_mean_square_difference(states, rounded), share * of_rounding);
  }
}

TEST(Bfloat16Model, has_the_same_bits_on_any_ranks_and_in_any_pieces) {
  constexpr std::int64_t more_than_a_tile_of_keys = 70;
  for (const ModelConfig& config : all_variants(more_than_a_tile_of_keys)) {
    SCOPED_TRACE(describe(config));
    const auto map = random_weight_map(config, 4);
    const Batch batch = random_batch(config, 2, 4 * config.chunk_size + 1, 82);
    Model<float> model(rounded_weights(config, map));
    const auto whole = run_model(model, MPI_COMM_SELF, batch);
    for (int count = 1; count <= world_ranks(); ++count) {
      const FirstRanks ranks(count);
      if (!ranks.has_this()) continue;
      EXPECT_TRUE(same_bits(run_model(model, ranks.comm(), batch), whole, config.hidden_dim)) << count << " ranks";
      if (!has_its_own_way(config) || !is_causal(config)) continue;
      Stream<float> at_once(config, ranks.comm(), 2);
      feed(at_once, model, batch);
      EXPECT_EQ(at_once.bytes(), stream_bytes<float>(config, 2, batch.length, count, ranks.rank(), Rounding::bfloat16));
      Stream<float> stream(config, ranks.comm(), 2);
      std::vector<float> pieces(whole.size());
      const std::int64_t chunk = config.chunk_size;
      for (const std::int64_t size : {chunk + 1, std::int64_t{1}, std::int64_t{1}, 3 * chunk - 2}) {
        const std::int64_t begin = stream.tokens();
        const auto piece = feed(stream, model, batch.piece(begin, begin + size));
        for (std::int64_t row = 0; row < 2; ++row)
          std::copy_n(piece.begin() + row * size * config.hidden_dim, size * config.hidden_dim,
                      pieces.begin() + (row * batch.length + begin) * config.hidden_dim);
      }
      EXPECT_TRUE(same_bits(pieces, whole, config.hidden_dim)) << count << " ranks, in pieces";
    }
  }
}

/// Logits of few rows, and those of which the loss is formed, have the rounded head.
TEST(Bfloat16Model, has_the_loss_of_the_reference) {
  for (const Head head : {Head::tied, Head::separate}) {
    ModelConfig config = sizes_of_test();
    config.head = head;
    const auto map = random_weight_map(config, 5);
    const Batch batch = random_batch(config, 1, 3 * config.chunk_size, 83);
    const Weights<float> weights = rounded_weights(config, map);
    Model<float> model(weights);
    const Sequence sequence(MPI_COMM_SELF, 1, batch.length, config.chunk_size);
    const auto ids = local_part<std::int32_t>(sequence, batch.ids);
    const auto states = model.forward(Execution(), sequence, ids);
    const auto targets = next_tokens(Execution(), sequence, ids);
    const auto losses = OutputLayer<float>(weights).losses(Execution(), sequence, states, targets);
    const reference::Batch same{batch.length, batch.ids, reference::next_tokens(batch.ids, {}, batch.length), {}};
    const auto rounded = reference::loss(config, map, same, Rounding::bfloat16),
               exact = reference::loss(config, map, same);
    const auto found = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), losses.loss);
    const std::vector<double> all(found.data(), found.data() + found.size());
    const double of_rounding = root_mean_square_difference(rounded.token_loss.values, exact.token_loss.values);
    EXPECT_GT(of_rounding, 1e-4);
    EXPECT_LT(root_mean_square_difference(all, rounded.token_loss.values), 0.2 * of_rounding);

    LogitLayer<float> logits(weights);
    const auto of_rows = logits.logits(
        Execution(), Array<const float**>(states.data(), batch.length, static_cast<std::size_t>(config.hidden_dim)));
    const auto target = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), targets);
    for (std::size_t t = 0; t + 1 < of_rows.extent(0); ++t) {
      double sum = 0;
      for (std::size_t id = 0; id < of_rows.extent(1); ++id) sum += std::exp(static_cast<double>(of_rows(t, id)));
      const auto logit = static_cast<double>(of_rows(t, static_cast<std::size_t>(target(0, t))));
      EXPECT_NEAR(std::log(sum) - logit, found(0, t), 1e-5);
    }
  }
}

TEST(Bfloat16Model, takes_half_the_memory_for_packed_weights) {
  if (!kernels::on_host) GTEST_SKIP() << "a GPU has no packed weights";
  ModelConfig config;
  config.architecture = Architecture::bsbr, config.hidden_dim = 512, config.num_heads = 8, config.ff_dim = 2048;
  EXPECT_EQ(2 * packed_weight_bytes<float>(config, Rounding::bfloat16), packed_weight_bytes<float>(config));
}

TEST(Bfloat16Model, is_one_in_float_without_gradients) {
  const ModelConfig config = small_config(Architecture::linear);
  Weights<double> in_double(config);
  EXPECT_THROW(in_double.set_rounding(Rounding::bfloat16), ConfigError);
  EXPECT_NO_THROW(in_double.set_rounding(Rounding::none));
  ModelConfig with_head = config;
  with_head.head = Head::separate;
  EXPECT_THROW(ModelGradient<float>(rounded_weights(with_head, random_weight_map(with_head, 1))), ConfigError);
}

TEST(Bfloat16Model, goes_on_only_with_streams_of_its_own) {
  const ModelConfig config = small_config(Architecture::linear);
  const auto map = random_weight_map(config, 6);
  Model<float> model(to_weights<float>(config, map)), rounded(rounded_weights(config, map));
  const Batch batch = random_batch(config, 1, 7, 84);
  Stream<float> stream(config, MPI_COMM_SELF, 1);
  feed(stream, rounded, batch);
  EXPECT_THROW(feed(stream, model, batch), ShapeError);
  EXPECT_NO_THROW(feed(stream, rounded, batch));
  auto alone = gather_on_first(Execution(), stream);
  EXPECT_THROW(feed(*alone, model, batch), ShapeError);
}

TEST(Bfloat16Model, has_a_workspace_and_streams_of_its_own) {
  if (world_rank() != 0) return;
  const ModelConfig config = sizes_of_test();
  const Weights<float> weights = rounded_weights(config, random_weight_map(config, 6));
  const Sequence sequence(MPI_COMM_SELF, 1, 5, config.chunk_size);
  const PaddingMask mask(Execution(), sequence);
  const Array<float***> x("test::x", 1, 5, config.hidden_dim);
  Workspace<float> of_float(config, sequence);
  EXPECT_THROW(Layer<float>(weights, 0).forward(Execution(), mask, of_float, x), ShapeError);
  EXPECT_THROW(LayerGradient<float>(weights, 0, sequence), ConfigError);

  Model<float> model(weights);
  Stream<float> stream_of_float(config, MPI_COMM_SELF, 1, Rounding::none);
  const Batch batch = random_batch(config, 1, 5, 86);
  EXPECT_THROW(feed(stream_of_float, model, batch), ShapeError);
}

/// With room from the beginning on, a stream of keys in 16 bits grows no more than predicted.
TEST(Bfloat16Model, has_streams_whose_room_is_predicted) {
  if (world_rank() != 0) return;
  ModelConfig config = sizes_of_test();
  config.architecture = Architecture::standard;
  Model<float> model(rounded_weights(config, random_weight_map(config, 7)));
  const Batch batch = random_batch(config, 1, 20, 87);
  Stream<float> stream(config, MPI_COMM_SELF, 1, Rounding::bfloat16);
  stream.reserve(batch.length);
  for (std::int64_t t = 0; t < batch.length; ++t) feed(stream, model, batch.piece(t, t + 1));
  const std::int64_t predicted = stream_bytes<float>(config, 1, batch.length, 1, 0, Rounding::bfloat16);
  EXPECT_EQ(stream.bytes(), predicted);
  EXPECT_EQ(predicted, stream_bytes<float>(config, 1, batch.length) / (kernels::on_host ? 2 : 1));
}

}  // namespace
}  // namespace bsbr::testing
