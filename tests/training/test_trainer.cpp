// Training as a whole: the same bits however ranks share a step, however it is cut into micro-batches, and when it goes
// on elsewhere.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "bsbr/error.hpp"
#include "bsbr/training.hpp"
#include "support/allocations.hpp"
#include "support/bits.hpp"
#include "support/device_arrays.hpp"
#include "support/reals.hpp"
#include "support/training.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

template <class Real>
class Training : public ::testing::Test {};
TYPED_TEST_SUITE(Training, Reals, RealNames);

constexpr std::int64_t sequences = 4, length = 43;

ModelConfig sizes(Head head) {
  ModelConfig config = small_config(Architecture::bsbr);
  config.head = head;
  return config;
}

TrainingOptions options() {
  return {.optimizer = {.weight_decay = 0.1},
          .learning_rate = {.learning_rate = 1e-2, .warmup_steps = 2, .decay_steps = 5},
          .clip = 0.5,
          .dropout = 0.1,
          .seed = 7};
}

Batch batch_of_step(const ModelConfig& config, std::uint64_t step) {
  return random_batch(config, sequences, length, step, Padding::holes);
}

/// All that a run gives.
template <class Real>
struct Run {
  std::vector<double> losses, norms;
  std::vector<Real> weights, first_moments, second_moments;
};

/// One step after the other.
template <class Real>
class Runner {
 public:
  Runner(MPI_Comm comm, const Weights<Real>& weights, const StepShape& shape, const TrainingOptions& options)
      : m_grid(comm, shape, weights.config().chunk_size), m_trainer(weights, m_grid, options) {}

  Trainer<Real>& trainer() { return m_trainer; }

  void steps(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t step = first; step <= last; ++step) {
      const TrainingStep result = take_step(m_trainer, m_grid, batch_of_step(m_trainer.weights().config(), step));
      m_run.losses.push_back(result.loss.loss);
      m_run.norms.push_back(result.gradient_norm);
    }
  }

  Run<Real> result() {
    m_run.weights = to_host(m_trainer.weights().data());
    m_run.first_moments = of_all_ranks(m_trainer, &OwnedWeights<Real>::first_moments);
    m_run.second_moments = of_all_ranks(m_trainer, &OwnedWeights<Real>::second_moments);
    return m_run;
  }

 private:
  TrainingGrid m_grid;
  Trainer<Real> m_trainer;
  Run<Real> m_run;
};

StepShape shape(std::int64_t accumulate, int sequence_ranks = 0) {
  return {
      .length = length, .batch = sequences / accumulate, .accumulate = accumulate, .sequence_ranks = sequence_ranks};
}

template <class Real>
Run<Real> run(MPI_Comm comm, const Weights<Real>& weights, const StepShape& how,
              const TrainingOptions& given = options()) {
  Runner<Real> runner(comm, weights, how, given);
  runner.steps(1, 2);
  return runner.result();
}

template <class Real>
void expect_same(const Run<Real>& actual, const Run<Real>& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norms, expected.norms);
  EXPECT_TRUE(same_bits(actual.weights, expected.weights, 1));
  EXPECT_TRUE(same_bits(actual.first_moments, expected.first_moments, 1));
  EXPECT_TRUE(same_bits(actual.second_moments, expected.second_moments, 1));
}

TYPED_TEST(Training, has_the_same_bits_however_ranks_share_a_step) {
  for (const ModelConfig& config : variants(sizes(Head::tied), has_its_own_way)) {
    const Weights<TypeParam> weights = random_weights<TypeParam>(config, 1);
    const auto alone = run(MPI_COMM_SELF, weights, shape(1));
    for (int count = 1; count <= world_ranks(); ++count) {
      const FirstRanks ranks(count);
      if (!ranks.has_this()) continue;
      for (const std::int64_t accumulate : {1, 2, 4}) {
        for (int sequence_ranks = 1; sequence_ranks <= count; ++sequence_ranks) {
          const int groups = count / sequence_ranks;
          if (count % sequence_ranks != 0 || sequences / accumulate % groups != 0) continue;
          if (accumulate == 1 && (count == 1 || sequence_ranks > 2)) continue;  // is `alone`; as gradients do
          SCOPED_TRACE(describe(config) + ", " + std::to_string(groups) + " groups of " +
                       std::to_string(sequence_ranks) + " ranks, " + std::to_string(accumulate) + " micro-batches");
          expect_same(run(ranks.comm(), weights, shape(accumulate, sequence_ranks)), alone);
        }
      }
    }
  }
}

TYPED_TEST(Training, has_the_same_bits_whatever_is_computed_again) {
  const ModelConfig config = sizes(Head::separate);
  const Weights<TypeParam> weights = random_weights<TypeParam>(config, 1);
  TrainingOptions keeps = options();
  keeps.recompute = Recompute::none;
  expect_same(run(MPI_COMM_WORLD, weights, shape(2), keeps), run(MPI_COMM_WORLD, weights, shape(2)));
}

TYPED_TEST(Training, goes_on_elsewhere_as_if_it_had_never_stopped) {
  const ModelConfig config = sizes(Head::separate);
  const Weights<TypeParam> weights = random_weights<TypeParam>(config, 1);
  Runner<TypeParam> whole(MPI_COMM_SELF, weights, shape(1), options());
  whole.steps(1, 4);
  Runner<TypeParam> before(MPI_COMM_WORLD, weights, shape(2), options());
  before.steps(1, 2);
  const Run<TypeParam> so_far = before.result();
  EXPECT_TRUE(same_bits(of_all_ranks(before.trainer(), &OwnedWeights<TypeParam>::weights), so_far.weights, 1));
  Runner<TypeParam> after(MPI_COMM_WORLD, before.trainer().weights(), shape(4), options());
  for (const OwnedWeights<TypeParam>& range : after.trainer().owned()) {
    const auto count = static_cast<std::int64_t>(range.weights.size());
    Kokkos::deep_copy(range.first_moments,
                      to_device<TypeParam*>(rows_of(so_far.first_moments, 1, range.offset, count), count));
    Kokkos::deep_copy(range.second_moments,
                      to_device<TypeParam*>(rows_of(so_far.second_moments, 1, range.offset, count), count));
  }
  after.trainer().resume(2);
  after.steps(3, 4);
  EXPECT_EQ(after.trainer().steps(), 4);
  const auto expected = whole.result(), actual = after.result();
  EXPECT_TRUE(same_bits(actual.weights, expected.weights, 1));
  EXPECT_TRUE(same_bits(actual.second_moments, expected.second_moments, 1));
}

TYPED_TEST(Training, evaluates_with_the_bits_of_the_loss_of_a_step_and_changes_nothing) {
  for (const ModelConfig& config : variants(sizes(Head::separate), has_its_own_way)) {
    const Weights<TypeParam> weights = random_weights<TypeParam>(config, 1);
    const Batch batch = batch_of_step(config, 1);
    TrainingOptions without_dropout = options();
    without_dropout.dropout = 0;
    for (const std::int64_t accumulate : {1, 2}) {
      const TrainingGrid grid(MPI_COMM_WORLD, shape(accumulate), config.chunk_size);
      Trainer<TypeParam> trainer(weights, grid, options()), other(weights, grid, without_dropout);
      const MeanLoss loss = trainer.evaluate(Execution(), micro_batches(grid, batch));
      const MeanLoss of_step = take_step(other, grid, batch).loss;
      EXPECT_EQ(loss.loss, of_step.loss);
      EXPECT_EQ(loss.counted, of_step.counted);
      EXPECT_EQ(trainer.steps(), 0);
      EXPECT_TRUE(same_bits(to_host(trainer.weights().data()), to_host(weights.data()), 1));
    }
  }
}

TYPED_TEST(Training, makes_the_loss_of_one_batch_fall) {
  for (const ModelConfig& config : variants(sizes(Head::separate), has_its_own_way)) {
    const TrainingGrid grid(MPI_COMM_WORLD, shape(1), config.chunk_size);
    Trainer<TypeParam> trainer(random_weights<TypeParam>(config, 1), grid, options());
    const Batch batch = batch_of_step(config, 1);
    const double before = take_step(trainer, grid, batch).loss.loss;
    for (int step = 0; step < 10; ++step) take_step(trainer, grid, batch);
    EXPECT_LT(take_step(trainer, grid, batch).loss.loss, before) << describe(config);
  }
}

TYPED_TEST(Training, takes_no_step_of_a_gradient_that_is_not_finite) {
  const ModelConfig config = sizes(Head::tied);
  const Weights<TypeParam> weights = random_weights<TypeParam>(config, 1);
  Kokkos::deep_copy(Kokkos::subview(weights.data(), 5), std::numeric_limits<TypeParam>::infinity());
  const auto before = to_host(weights.data());
  Runner<TypeParam> runner(MPI_COMM_WORLD, weights, shape(1), options());
  const TrainingGrid grid(MPI_COMM_WORLD, shape(1), config.chunk_size);
  const TrainingStep result = take_step(runner.trainer(), grid, batch_of_step(config, 1));
  EXPECT_FALSE(result.is_taken);
  EXPECT_EQ(result.step, 1);
  const auto after = runner.result();
  EXPECT_TRUE(same_bits(after.weights, before, 1));
  EXPECT_EQ(largest_magnitude(widen(after.first_moments)), 0);
}

TYPED_TEST(Training, takes_the_memory_that_training_bytes_says) {
  const std::vector<std::string> uncounted{"bsbr::mask::",
                                           "bsbr::parallel::staged",
                                           "bsbr::attention::shared_log_sums",
                                           "bsbr::gradient_norm",
                                           "bsbr::adamw::starts",
                                           "bsbr::loss::",
                                           "test::"};
  for (const ModelConfig& config : variants(sizes(Head::separate), has_its_own_way)) {
    for (const std::int64_t accumulate : {1, 2}) {
      SCOPED_TRACE(describe(config) + ", " + std::to_string(accumulate) + " micro-batches");
      const TrainingGrid grid(MPI_COMM_WORLD, shape(accumulate), config.chunk_size);
      const Weights<TypeParam> weights = random_weights<TypeParam>(config, 5);
      const Batch batch = batch_of_step(config, 1);
      {
        Trainer<TypeParam> other(weights, grid, options());  // Kokkos' own scratch memory exists
        take_step(other, grid, batch);
      }
      const AllocationRecorder recorder;
      Trainer<TypeParam> trainer(weights, grid, options());
      take_step(trainer, grid, batch);
      expect_predicted(training_bytes<TypeParam>(config, grid, options()), recorder.without(uncounted));
    }
  }
}

TEST(WrongTraining, is_refused_on_all_ranks) {
  const ModelConfig config = sizes(Head::tied);
  const auto grid_of = [&](const StepShape& wrong) { return TrainingGrid(MPI_COMM_WORLD, wrong, config.chunk_size); };
  EXPECT_THROW(grid_of({.length = 0}), ConfigError);
  EXPECT_THROW(grid_of({.length = 5, .batch = 0}), ConfigError);
  EXPECT_THROW(grid_of({.length = 5, .accumulate = 0}), ConfigError);
  EXPECT_THROW(grid_of({.length = 5, .sequence_ranks = world_ranks() + 1}), ConfigError);
  if (world_ranks() > 1) {
    EXPECT_THROW(grid_of({.length = 5, .batch = 1, .sequence_ranks = 1}), ConfigError);
  }
  const TrainingGrid grid = grid_of(shape(1));
  ModelConfig headless = config;
  headless.head = Head::none;
  EXPECT_THROW(Trainer<float>(Weights<float>(headless), grid, options()), ConfigError);
  ModelConfig longer = config;
  longer.chunk_size += 1;
  EXPECT_THROW(Trainer<float>(Weights<float>(longer), grid, options()), ConfigError);
  TrainingOptions wrong = options();
  wrong.optimizer.beta1 = 1;
  EXPECT_THROW(Trainer<float>(Weights<float>(config), grid, wrong), ConfigError);
  Trainer<float> trainer(random_weights<float>(config, 1), grid, options());
  EXPECT_THROW(trainer.step(Execution(), {}), ShapeError);
  EXPECT_THROW(trainer.resume(-1), ConfigError);
}

}  // namespace
}  // namespace bsbr::testing
