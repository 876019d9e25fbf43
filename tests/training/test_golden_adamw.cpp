// Steps of training of small models: gradients, their norm, clipping, the learning rate and AdamW, against golden files
// (tests/golden_gradients/README.md). Each rank owns a part of the weights.
#include <gtest/gtest.h>

#include <cmath>

#include "parallel/reduce_scatter.hpp"
#include "support/golden.hpp"
#include "support/model_gradients.hpp"
#include "support/world.hpp"
#include "training/adamw.hpp"
#include "training/clipping.hpp"
#include "training/learning_rate.hpp"

namespace bsbr::testing {
namespace {

Array<double*> part_of(const Array<double*>& all, const Partition& parts) {
  const std::int64_t begin = parts.begin(world_rank());
  return Array<double*>(all.data() + begin, static_cast<std::size_t>(parts.size(world_rank())));
}

/// Those of the file's model after a step with the gradients, on each rank. Returns their norm.
double take_step(const training::AdamW<double>& optimiser, const GoldenAdamW& golden, std::int64_t step,
                 const std::vector<double>& gradients, const Weights<double>& weights) {
  const auto all = to_device<double*>(gradients, gradients.size());
  const auto count = static_cast<std::int64_t>(gradients.size());
  const Partition blocks = training::weight_parts(count, world_ranks()), owned{count, world_ranks()};
  const double norm = training::gradient_norm<double>(Execution(), MPI_COMM_WORLD, count, blocks.begin(world_rank()),
                                                      part_of(all, blocks));
  const training::LearningRate rate{golden.learning_rate, golden.min_learning_rate, golden.warmup_steps,
                                    golden.decay_steps};
  const Array<double*> part = part_of(weights.data(), owned);
  optimiser.update(Execution(), step, rate.at(step), training::clip_scale(norm, golden.clip), part_of(all, owned),
                   part);
  parallel::all_parts(Execution(), MPI_COMM_WORLD, part, weights.data())->wait();
  Execution().fence();
  return norm;
}

/// Weights whose gradients are 0 but for rounding move at random: those are not compared.
void expect_weights(const Weights<double>& weights, const GoldenAdamW& golden, const GoldenGradients& first) {
  const auto actual = to_host(weights.data());
  const double least = 1e-9 * first.largest();
  std::size_t compared = 0;
  for (const auto& [name, expected] : golden.weights) {
    const std::vector<double>& gradient = first.gradients.at(name).values;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      if (std::abs(gradient[i]) <= least) continue;
      ++compared;
      ASSERT_NEAR(actual[static_cast<std::size_t>(weights.offset(name)) + i], expected.values[i], 1e-9)
          << name << ", element " << i;
    }
  }
  EXPECT_GE(2 * compared, actual.size());
}

TEST(GoldenAdamW, losses_norms_and_weights_are_those_of_the_files) {
  int files = 0;
  for (const std::string& name : golden_gradient_names()) {
    const GoldenGradientCase file = read_golden_gradients(name);
    if (!file.adamw) continue;
    ++files;
    SCOPED_TRACE(name);
    const GoldenAdamW& golden = *file.adamw;
    const auto weights = to_weights<double>(file.config, file.weights);
    const auto count = static_cast<std::int64_t>(weights.data().extent(0));
    const Partition owned{count, world_ranks()};
    const training::AdamWOptions options{golden.beta1, golden.beta2, golden.epsilon, golden.weight_decay};
    const training::AdamW<double> optimiser(file.config, options, owned.begin(world_rank()), owned.end(world_rank()));
    const auto tokens = file.batch * file.length;
    for (std::int64_t step = 1; step <= golden.steps; ++step) {
      const auto index = static_cast<std::size_t>(step - 1);
      const auto first = golden.ids.begin() + (step - 1) * tokens;
      const Batch batch{file.batch, file.length, {first, first + tokens}, file.mask};
      const auto computed = compute_gradients(weights, MPI_COMM_WORLD, batch, targets_of(batch));
      const double norm = take_step(optimiser, golden, step, computed.gradients, weights);
      EXPECT_NEAR(computed.loss, golden.losses.at(index), 1e-9) << "step " << step;
      EXPECT_NEAR(norm, golden.gradient_norms.at(index), 1e-9 * norm) << "step " << step;
      EXPECT_GT(norm, golden.clip) << "this is a test of clipping, too";
    }
    for (const GoldenGradients& output : file.outputs) {
      if (output.config.causality == file.config.causality) expect_weights(weights, golden, output);
    }
  }
  EXPECT_EQ(files, 8);
}

}  // namespace
}  // namespace bsbr::testing
