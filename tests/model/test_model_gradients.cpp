// Loss and gradients of whole models: those of the golden files and of the reference, with the same bits on any ranks.
#include <gtest/gtest.h>

#include "config/weight_table.hpp"
#include "support/allocations.hpp"
#include "support/bits.hpp"
#include "support/golden.hpp"
#include "support/model_gradients.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

/// The largest difference from expected gradients, relative to the largest element of all.
template <class Real>
double difference(const Weights<Real>& weights, const std::vector<Real>& gradients,
                  const reference::WeightMap& expected) {
  double most = 0, largest = 0;
  for (const auto& weight : weight_table(weights.config())) {
    const std::vector<double>& exact = expected.at(weight.name).values;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double actual = gradients[static_cast<std::size_t>(weights.offset(weight.name)) + i];
      most = std::max(most, std::isfinite(actual) ? std::abs(actual - exact[i]) : 1e300);
      largest = std::max(largest, std::abs(exact[i]));
    }
  }
  return largest == 0 ? most : most / largest;
}

/// Of the largest element of all gradients (tests/golden_gradients/README.md).
template <class Real>
constexpr double tolerance = sizeof(Real) == 4 ? 2e-5 : 1e-10;

template <class Real>
class ModelGradients : public ::testing::Test {};
TYPED_TEST_SUITE(ModelGradients, Reals, RealNames);

TYPED_TEST(ModelGradients, are_those_of_the_golden_files) {
  if (world_ranks() > 3) return;  // many ranks have the same bits: see below
  for (const std::string& name : golden_gradient_names()) {
    const GoldenGradientCase golden = read_golden_gradients(name);
    for (const GoldenGradients& expected : golden.outputs) {
      SCOPED_TRACE(name + ", " + describe(expected.config));
      const Weights<TypeParam> weights = to_weights<TypeParam>(expected.config, golden.weights);
      const Batch batch{golden.batch, golden.length, golden.ids, golden.mask};
      const auto actual = compute_gradients(weights, MPI_COMM_WORLD, batch, golden.targets);
      EXPECT_NEAR(actual.loss, expected.loss, tolerance<TypeParam> * expected.loss);
      EXPECT_LE(difference(weights, actual.gradients, expected.gradients), tolerance<TypeParam>);
    }
  }
}

TYPED_TEST(ModelGradients, are_those_of_the_reference_at_sizes_that_do_not_fit) {
  if (world_ranks() > 3) return;  // many ranks have the same bits: see below
  for (const Head head : {Head::tied, Head::separate}) {
    for (const ModelConfig& config : variants(gradient_config(head))) {
      for (const std::int64_t length : {1, 6, 83}) {
        const Batch batch = random_batch(config, 2, length, 5, length == 83 ? Padding::holes : Padding::none);
        SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens");
        const auto map = random_weight_map(config, 1);
        const Weights<TypeParam> weights = to_weights<TypeParam>(config, map);
        const auto expected =
            reference::loss_and_gradients(config, map, {batch.length, batch.ids, targets_of(batch), batch.mask});
        const auto actual = compute_gradients(weights, MPI_COMM_WORLD, batch, targets_of(batch));
        EXPECT_NEAR(actual.loss, expected.loss.mean, 1e-4 * std::abs(expected.loss.mean) + 1e-12);
        EXPECT_LE(difference(weights, actual.gradients, expected.gradients), 10 * tolerance<TypeParam>);
      }
    }
  }
}

TYPED_TEST(ModelGradients, have_the_same_bits_on_any_number_of_ranks) {
  for (const ModelConfig& config : variants(gradient_config(Head::tied), has_its_own_way)) {
    for (const std::int64_t length : {3, 83, 331}) {
      const Batch batch = random_batch(config, 2, length, 5, length == 83 ? Padding::none : Padding::holes);
      SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens");
      const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
      const auto alone = compute_gradients(weights, MPI_COMM_SELF, batch, targets_of(batch));
      for (int count = 2; count <= world_ranks(); ++count) {
        const FirstRanks ranks(count);
        if (!ranks.has_this()) continue;
        const auto together = compute_gradients(weights, ranks.comm(), batch, targets_of(batch));
        EXPECT_EQ(together.loss, alone.loss) << count << " ranks";
        EXPECT_EQ(together.token_losses, alone.token_losses) << count << " ranks";
        EXPECT_TRUE(same_bits(together.gradients, alone.gradients, 1)) << count << " ranks";
      }
    }
  }
}

TYPED_TEST(ModelGradients, have_the_same_bits_whatever_is_computed_again) {
  for (const ModelConfig& config : variants(gradient_config(Head::separate), has_its_own_way)) {
    const Batch batch = random_batch(config, 2, 83, 5, Padding::holes);
    const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
    const auto again = compute_gradients(weights, MPI_COMM_WORLD, batch, targets_of(batch), Recompute::all),
               kept = compute_gradients(weights, MPI_COMM_WORLD, batch, targets_of(batch), Recompute::none);
    EXPECT_EQ(kept.loss, again.loss) << describe(config);
    EXPECT_TRUE(same_bits(kept.gradients, again.gradients, 1)) << describe(config);
  }
}

TYPED_TEST(ModelGradients, have_the_same_bits_after_others) {
  const ModelConfig config = gradient_config(Head::tied);
  const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
  ModelGradient<TypeParam> model(weights);
  const auto compute = [&](std::int64_t length, Recompute recompute) {
    const Batch batch = random_batch(config, 2, length, 5);
    const Sequence sequence = gradient_sequence(MPI_COMM_WORLD, batch.batch, length, config.chunk_size);
    const auto result =
        model.compute(Execution(), sequence, local_part<std::int32_t>(sequence, batch.ids),
                      local_part<std::int32_t>(sequence, targets_of(batch)), std::nullopt, nullptr, recompute);
    return to_host(result.gradients.data());
  };
  const auto first = compute(83, Recompute::all);
  EXPECT_TRUE(same_bits(compute(83, Recompute::all), first, 1));
  compute(17, Recompute::all);
  compute(83, Recompute::none);
  EXPECT_TRUE(same_bits(compute(83, Recompute::none), first, 1));
  EXPECT_TRUE(same_bits(compute(83, Recompute::all), first, 1));
}

TYPED_TEST(ModelGradients, of_a_batch_that_counts_no_position_are_zero) {
  for (const ModelConfig& config : variants(gradient_config(Head::separate), has_its_own_way)) {
    const Batch batch = random_batch(config, 2, 17, 5);
    const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
    const auto none = compute_gradients(weights, MPI_COMM_WORLD, batch, std::vector<std::int64_t>(2 * 17, no_target));
    EXPECT_EQ(none.loss, 0);
    EXPECT_EQ(none.counted, 0);
    EXPECT_EQ(std::count(none.gradients.begin(), none.gradients.end(), TypeParam(0)),
              static_cast<std::ptrdiff_t>(none.gradients.size()))
        << describe(config);
  }
}

/// What no prediction counts: a few bytes per chunk, a host's copies of messages, what is freed at once, and the test's
/// own.
const std::vector<std::string> uncounted{"bsbr::mask::", "bsbr::parallel::staged", "bsbr::attention::shared_log_sums",
                                         "test::"};

TYPED_TEST(ModelGradients, take_the_memory_that_gradient_bytes_says) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.head = Head::separate;
  for (const ModelConfig& config : variants(sizes)) {
    for (const Recompute recompute : {Recompute::all, Recompute::none}) {
      SCOPED_TRACE(describe(config) + (recompute == Recompute::all ? ", all" : ", none"));
      const Weights<TypeParam> weights = random_weights<TypeParam>(config, 5);
      const Batch batch = random_batch(config, 2, 131, 7, Padding::holes);
      compute_gradients(weights, MPI_COMM_WORLD, batch, targets_of(batch),
                        recompute);  // Kokkos' own scratch memory exists
      const Sequence sequence = gradient_sequence(MPI_COMM_WORLD, batch.batch, batch.length, config.chunk_size);
      const auto ids = local_part<std::int32_t>(sequence, batch.ids),
                 targets = local_part<std::int32_t>(sequence, targets_of(batch));
      const auto mask = local_part<std::uint8_t>(sequence, batch.mask);
      const AllocationRecorder recorder;
      ModelGradient<TypeParam> model(weights);
      model.compute(Execution(), sequence, ids, targets, mask, nullptr, recompute);
      expect_predicted(gradient_bytes<TypeParam>(config, sequence, recompute), recorder.without(uncounted));
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
