// Targets, the losses of a model with a head, and their means, against plain loops over the reference's hidden states;
// that ranks change no bit; arguments that do not fit.
#include "bsbr/loss.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "bsbr/error.hpp"
#include "support/allocations.hpp"
#include "support/bits.hpp"
#include "support/device_arrays.hpp"
#include "support/run_model.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

using Targets = std::vector<std::int64_t>;

ModelConfig config_with(Head head, Architecture architecture = Architecture::bsbr) {
  ModelConfig config = small_config(architecture);
  config.head = head;
  return config;
}

/// By its definition, [batch, length].
Targets expected_targets(const Batch& batch) {
  Targets targets(batch.ids.size(), no_target);
  const auto real = [&](std::size_t i) { return batch.mask.empty() || batch.mask[i] == 1; };
  for (std::int64_t row = 0; row < batch.batch; ++row) {
    for (std::int64_t t = 0; t + 1 < batch.length; ++t) {
      const auto i = static_cast<std::size_t>(row * batch.length + t);
      if (real(i) && real(i + 1)) targets[i] = batch.ids[i + 1];
    }
  }
  return targets;
}

/// −log softmax(logits)[target] of every token, [batch, length].
std::vector<double> expected_losses(const ModelConfig& config, const reference::WeightMap& weights,
                                    const Batch& batch) {
  const reference::Matrix& head = weights.at(config.head == Head::tied ? "embedding.weight" : "lm_head.weight");
  const Targets targets = expected_targets(batch);
  std::vector<double> losses(targets.size(), 0.0);
  for (std::int64_t row = 0; row < batch.batch; ++row) {
    const auto y = reference::forward(config, weights, batch.row_ids(row), batch.row_mask(row)).hidden_states;
    for (std::int64_t t = 0; t < batch.length; ++t) {
      const auto i = static_cast<std::size_t>(row * batch.length + t);
      if (targets[i] < 0) continue;
      std::vector<double> logits(static_cast<std::size_t>(head.rows), 0.0);
      double sum = 0;
      for (std::size_t id = 0; id < logits.size(); ++id) {
        for (std::int64_t k = 0; k < head.columns; ++k)
          logits[id] += y.values[static_cast<std::size_t>(t * y.columns + k)] *
                        head.values[id * static_cast<std::size_t>(head.columns) + static_cast<std::size_t>(k)];
        sum += std::exp(logits[id]);
      }
      losses[i] = std::log(sum) - logits[static_cast<std::size_t>(targets[i])];
    }
  }
  return losses;
}

/// The whole [batch, length] of the ranks' parts, on every rank.
std::vector<double> gather(const Sequence& sequence, const Array<double**>& part) {
  return gather_tokens(sequence, Array<double***>(part.data(), part.extent(0), part.extent(1), 1));
}

std::optional<Array<const std::uint8_t**>> mask_of(const Sequence& sequence, const Batch& batch) {
  if (batch.mask.empty()) return std::nullopt;
  return local_part<std::uint8_t>(sequence, batch.mask);
}

Array<const std::int32_t**> targets_of(const Sequence& sequence, const Batch& batch) {
  return next_tokens(Execution(), sequence, local_part<std::int32_t>(sequence, batch.ids), mask_of(sequence, batch));
}

struct Evaluated {
  std::vector<double> losses, log_sums;  // [batch, length]
  MeanLoss mean;
};

/// What the library makes of a batch on the ranks of a communicator. Collective.
template <class Real>
Evaluated evaluate(const ModelConfig& config, MPI_Comm comm, const Batch& batch) {
  const Sequence sequence(comm, batch.batch, batch.length, config.chunk_size);
  const Weights<Real> weights = to_weights<Real>(config, random_weight_map(config, 1));
  Model<Real> model(weights);
  const OutputLayer<Real> head(weights);
  const Execution execution;
  const auto states =
      model.forward(execution, sequence, local_part<std::int32_t>(sequence, batch.ids), mask_of(sequence, batch));
  const auto targets = targets_of(sequence, batch);
  const TokenLosses losses = head.losses(execution, sequence, states, targets);
  return {gather(sequence, losses.loss), gather(sequence, losses.log_sum), mean_loss(sequence, losses.loss, targets)};
}

Batch batch_of(const ModelConfig& config, std::int64_t rows, std::int64_t length, Padding padding = Padding::none) {
  return random_batch(config, rows, length, 5, padding);
}

// ---- Targets --------------------------------------------------------------------------------------------------------

TEST(NextTokens, are_the_next_ids_across_ranks_but_for_the_last_and_for_padding) {
  const ModelConfig config = config_with(Head::tied);
  for (const std::int64_t length : {1, 2, 5, 6, 23, 40}) {
    for (const auto& [padding, name] : paddings) {
      const Batch batch = batch_of(config, 2, length, padding);
      const Sequence sequence(MPI_COMM_WORLD, batch.batch, batch.length, config.chunk_size);
      const auto expected = to_host(local_part<std::int32_t>(sequence, expected_targets(batch)));
      EXPECT_EQ(to_host(targets_of(sequence, batch)), expected) << length << ' ' << name;
    }
  }
}

TEST(NextTokens, of_other_extents_than_the_sequence_are_refused_by_all_ranks) {
  const Sequence sequence(MPI_COMM_WORLD, 2, 23, 5);
  const bool last = sequence.rank() == sequence.ranks() - 1;
  const Array<std::int32_t**> ids("test::ids", 2, sequence.local_tokens() + (last ? 1 : 0));
  EXPECT_THROW(next_tokens(Execution(), sequence, ids), ShapeError);
}

// ---- Losses ---------------------------------------------------------------------------------------------------------

TEST(OutputLayer, gives_the_losses_of_plain_loops_with_either_head_in_double) {
  for (const Head head : {Head::tied, Head::separate}) {
    for (const Padding padding : {Padding::none, Padding::holes}) {
      const ModelConfig config = config_with(head);
      const Batch batch = batch_of(config, 2, 23, padding);
      const auto found = evaluate<double>(config, MPI_COMM_WORLD, batch);
      const auto expected = expected_losses(config, random_weight_map(config, 1), batch);
      const std::vector<std::int64_t> shape{batch.batch, batch.length};
      EXPECT_TRUE(all_close({found.losses, shape}, {expected, shape}, 1e-10)) << to_string(head);
      double sum = 0;
      std::int64_t counted = 0;
      const Targets targets = expected_targets(batch);
      for (std::size_t i = 0; i < expected.size(); ++i) sum += expected[i], counted += targets[i] >= 0 ? 1 : 0;
      EXPECT_EQ(found.mean.counted, counted);
      EXPECT_NEAR(found.mean.loss, sum / static_cast<double>(counted), 1e-11);
      EXPECT_DOUBLE_EQ(found.mean.bits_per_token(), found.mean.loss / std::numbers::ln2);
      EXPECT_DOUBLE_EQ(found.mean.perplexity(), std::exp(found.mean.loss));
    }
  }
}

TEST(OutputLayer, gives_nearly_the_same_in_float) {
  const ModelConfig config = config_with(Head::separate);
  const Batch batch = batch_of(config, 1, 23);
  const auto found = evaluate<float>(config, MPI_COMM_WORLD, batch);
  const std::vector<std::int64_t> shape{1, 23};
  EXPECT_TRUE(
      all_close({found.losses, shape}, {expected_losses(config, random_weight_map(config, 1), batch), shape}, 2e-4));
}

template <class Real>
void expect_bits_of_one_rank(const ModelConfig& config, const Batch& batch) {
  const auto alone = evaluate<Real>(config, MPI_COMM_SELF, batch);
  for (int ranks = 1; ranks <= world_ranks(); ++ranks) {
    const FirstRanks first(ranks);
    if (!first.has_this()) continue;
    const auto found = evaluate<Real>(config, first.comm(), batch);
    EXPECT_TRUE(same_bits(found.losses, alone.losses, 1)) << ranks;
    EXPECT_TRUE(same_bits(found.log_sums, alone.log_sums, 1)) << ranks;
    EXPECT_TRUE(same_bits<double>({found.mean.loss}, {alone.mean.loss}, 1)) << ranks;
    EXPECT_EQ(found.mean.counted, alone.mean.counted);
  }
}

TEST(OutputLayer, has_the_same_bits_on_any_number_of_ranks) {
  for (const Padding padding : {Padding::none, Padding::holes, Padding::whole_row}) {
    for (const std::int64_t length : {1, 4, 23, 40}) {  // fewer chunks than ranks among them
      const ModelConfig config = config_with(Head::separate);
      expect_bits_of_one_rank<float>(config, batch_of(config, 2, length, padding));
      expect_bits_of_one_rank<double>(config, batch_of(config, 2, length, padding));
    }
  }
}

TEST(OutputLayer, of_a_model_without_a_head_is_refused) {
  const auto weights = random_weights<float>(config_with(Head::none), 1);
  try {
    const OutputLayer<float> layer(weights);
    FAIL() << "a layer without a head";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "the model has no head (head = none): it gives hidden states, and no logits");
    EXPECT_NE(error.hint().find("--head"), std::string::npos);
  }
}

TEST(OutputLayer, refuses_what_does_not_fit_on_all_ranks) {
  const ModelConfig config = config_with(Head::tied);
  const OutputLayer<float> head(random_weights<float>(config, 1));
  const Sequence sequence(MPI_COMM_WORLD, 2, 23, config.chunk_size);
  const std::int64_t tokens = sequence.local_tokens();
  const bool last = sequence.rank() == sequence.ranks() - 1;
  const auto losses = [&](std::int64_t rows, std::int64_t width, std::int64_t target_tokens, std::int32_t target) {
    const Array<std::int32_t**> targets("test::targets", 2, target_tokens);
    Kokkos::deep_copy(targets, target);
    head.losses(Execution(), sequence, Array<float***>("test::states", 2, rows, width), targets);
  };
  EXPECT_NO_THROW(losses(tokens, 12, tokens, 30));
  EXPECT_NO_THROW(losses(tokens, 12, tokens, no_target));
  EXPECT_THROW(losses(tokens + (last ? 1 : 0), 12, tokens, 1), ShapeError);
  EXPECT_THROW(losses(tokens, last ? 13 : 12, tokens, 1), ShapeError);
  EXPECT_THROW(losses(tokens, 12, tokens + (last ? 1 : 0), 1), ShapeError);
  EXPECT_THROW(losses(tokens, 12, tokens, last ? 31 : 30), ShapeError);
  EXPECT_THROW(losses(tokens, 12, tokens, last ? -2 : -1), ShapeError);
}

/// Exactly, but for the last bytes up to a multiple of eight, and what Kokkos needs for an allocation of nothing.
template <class Real>
void expect_predicted_memory(const ModelConfig& config) {
  const Sequence sequence(MPI_COMM_SELF, 2, 100, config.chunk_size);
  const Weights<Real> weights = random_weights<Real>(config, 1);
  const Array<std::int32_t**> ids("test::ids", 2, 100);
  const Array<Real***> states("test::states", 2, 100, config.hidden_dim);
  const AllocationRecorder recorder;
  const OutputLayer<Real> head(weights);
  head.losses(Execution(), sequence, states, next_tokens(Execution(), sequence, ids));
  const auto allocations = recorder.without({"bsbr::loss::first_targets"});
  const std::int64_t predicted = output_layer_bytes<Real>(config, sequence), allocated = total_bytes(allocations);
  EXPECT_GE(allocated, predicted) << ::testing::PrintToString(allocations);
  EXPECT_LE(allocated, predicted + 128 * static_cast<std::int64_t>(allocations.size()))
      << ::testing::PrintToString(allocations);
}

TEST(OutputLayer, takes_the_memory_that_is_predicted) {
  ModelConfig config = config_with(Head::separate);
  for (const std::int64_t ids : {31, 1024, 3000}) {
    config.vocab_size = ids;
    expect_predicted_memory<float>(config);
    expect_predicted_memory<double>(config);
  }
}

// ---- Means ----------------------------------------------------------------------------------------------------------

/// Losses and targets of `rows` sequences, [rows, length].
struct Column {
  std::vector<double> losses;
  Targets targets;

  Column(std::int64_t rows, std::int64_t length) {
    for (std::int64_t i = 0; i < rows * length; ++i) {
      losses.push_back(std::abs(std::sin(static_cast<double>(i) + 1)) * std::pow(10, static_cast<double>(i % 9) - 4));
      targets.push_back(i % 4 == 3 ? no_target : 1);
    }
  }

  void add_to(LossSum& sum, MPI_Comm comm, std::int64_t first, std::int64_t rows, std::int64_t length) const {
    const Sequence sequence(comm, rows, length, 5);
    const auto part = [&](const auto& values) {
      return std::vector(values.begin() + first * length, values.begin() + (first + rows) * length);
    };
    sum.add(sequence, local_part<double>(sequence, part(losses)), local_part<std::int32_t>(sequence, part(targets)));
  }
};

TEST(LossSum, does_not_depend_on_ranks_nor_on_how_sequences_are_cut_into_batches) {
  const std::int64_t rows = 7, length = 41;
  const Column column(rows, length);
  LossSum whole(rows, length);
  column.add_to(whole, MPI_COMM_SELF, 0, rows, length);
  for (const std::int64_t batch : {1, 2, 7}) {
    LossSum sum(rows, length);
    for (std::int64_t first = 0; first < rows; first += batch)
      column.add_to(sum, MPI_COMM_WORLD, first, std::min(batch, rows - first), length);
    EXPECT_TRUE(same_bits<double>({sum.mean(MPI_COMM_WORLD).loss}, {whole.mean(MPI_COMM_SELF).loss}, 1)) << batch;
    const auto found = sum.by_position(MPI_COMM_WORLD), expected = whole.by_position(MPI_COMM_SELF);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_TRUE(same_bits<double>({found[i].mean.loss}, {expected[i].mean.loss}, 1)) << batch << ' ' << i;
  }
}

TEST(LossSum, by_position_has_ranges_that_grow_and_hold_all_positions_once) {
  const std::int64_t rows = 3, length = 41;
  const Column column(rows, length);
  LossSum sum(rows, length);
  column.add_to(sum, MPI_COMM_WORLD, 0, rows, length);
  std::vector<std::int64_t> begins;
  std::int64_t counted = 0;
  for (const PositionLoss& range : sum.by_position(MPI_COMM_WORLD)) {
    begins.push_back(range.begin);
    double total = 0;
    std::int64_t count = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t t = range.begin; t < range.end; ++t) {
        const auto i = static_cast<std::size_t>(row * length + t);
        if (column.targets[i] == no_target) continue;
        total += column.losses[i];
        ++count;
      }
    }
    EXPECT_EQ(range.mean.counted, count);
    EXPECT_NEAR(range.mean.loss, count == 0 ? 0 : total / static_cast<double>(count), 1e-9);
    counted += count;
  }
  EXPECT_EQ(begins, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40}));
  EXPECT_EQ(counted, sum.mean(MPI_COMM_WORLD).counted);
}

TEST(LossSum, of_no_counted_position_is_0) {
  const Sequence sequence(MPI_COMM_WORLD, 1, 9, 5);
  const auto losses = local_part<double>(sequence, std::vector<double>(9, 0.0));
  const MeanLoss mean = mean_loss(sequence, losses, local_part<std::int32_t>(sequence, Targets(9, no_target)));
  EXPECT_EQ(mean.loss, 0);
  EXPECT_EQ(mean.counted, 0);
  EXPECT_EQ(mean.perplexity(), 1);
}

TEST(LossSum, of_more_sequences_than_announced_or_of_fewer_is_refused) {
  const Column column(3, 9);
  LossSum sum(2, 9);
  EXPECT_THROW(column.add_to(sum, MPI_COMM_WORLD, 0, 3, 9), ShapeError);
  EXPECT_THROW(column.add_to(sum, MPI_COMM_WORLD, 0, 1, 8), ShapeError);
  column.add_to(sum, MPI_COMM_WORLD, 0, 1, 9);
  EXPECT_THROW(sum.mean(MPI_COMM_WORLD), ShapeError);
  column.add_to(sum, MPI_COMM_WORLD, 1, 1, 9);
  EXPECT_NO_THROW(sum.mean(MPI_COMM_WORLD));
  EXPECT_THROW(LossSum(-1, 9), ConfigError);
  EXPECT_THROW(LossSum(std::int64_t{1} << 40, std::int64_t{1} << 40), ConfigError);
}

}  // namespace
}  // namespace bsbr::testing
