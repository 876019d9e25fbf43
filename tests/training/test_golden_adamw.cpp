// Steps of training of small models: gradients, their norm, clipping, the learning rate and AdamW, against golden files
// (tests/golden_gradients/README.md).
#include <gtest/gtest.h>

#include <cmath>

#include "bsbr/training.hpp"
#include "support/device_arrays.hpp"
#include "support/golden.hpp"
#include "support/training.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

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

TrainingOptions options_of(const GoldenAdamW& golden) {
  return {.optimizer = {golden.beta1, golden.beta2, golden.epsilon, golden.weight_decay},
          .learning_rate = {golden.learning_rate, golden.min_learning_rate, golden.warmup_steps, golden.decay_steps},
          .clip = golden.clip};
}

TEST(GoldenAdamW, losses_norms_and_weights_are_those_of_the_files) {
  int files = 0;
  for (const std::string& name : golden_gradient_names()) {
    const GoldenGradientCase file = read_golden_gradients(name);
    if (!file.adamw) continue;
    ++files;
    SCOPED_TRACE(name);
    const GoldenAdamW& golden = *file.adamw;
    const TrainingGrid grid(MPI_COMM_WORLD, {.length = file.length, .batch = file.batch}, file.config.chunk_size);
    Trainer<double> trainer(to_weights<double>(file.config, file.weights), grid, options_of(golden));
    const auto tokens = file.batch * file.length;
    for (std::int64_t step = 1; step <= golden.steps; ++step) {
      const auto index = static_cast<std::size_t>(step - 1);
      const auto first = golden.ids.begin() + (step - 1) * tokens;
      const TrainingStep result =
          take_step(trainer, grid, {file.batch, file.length, {first, first + tokens}, file.mask});
      EXPECT_EQ(result.step, step);
      EXPECT_NEAR(result.loss.loss, golden.losses.at(index), 1e-9) << "step " << step;
      EXPECT_NEAR(result.gradient_norm, golden.gradient_norms.at(index), 1e-9 * result.gradient_norm)
          << "step " << step;
      EXPECT_GT(result.gradient_norm, golden.clip) << "this is a test of clipping, too";
    }
    for (const GoldenGradients& output : file.outputs) {
      if (output.config.causality == file.config.causality) expect_weights(trainer.weights(), golden, output);
    }
  }
  EXPECT_EQ(files, 9);
}

}  // namespace
}  // namespace bsbr::testing
