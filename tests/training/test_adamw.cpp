// AdamW: its formula as plain loops over the weights, and that no bit depends on who owns which of them.
#include "training/adamw.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "bsbr/error.hpp"
#include "bsbr/partition.hpp"
#include "config/weight_table.hpp"
#include "support/allocations.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using training::AdamW;

/// Runs of a few elements, and of a few thousand, none of which fits a tile.
ModelConfig odd_sizes(Head head = Head::separate) {
  ModelConfig config;
  config.hidden_dim = 21;
  config.num_heads = 3;
  config.num_layers = 2;
  config.ff_dim = 67;
  config.vocab_size = 131;
  config.head = head;
  return config;
}

const AdamWOptions options{.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-6, .weight_decay = 0.3};
const std::vector<double> rates{0.1, 0.03, 0.2, 0.05};  // of the steps
constexpr double scale = 0.4;

/// What the steps make of weights, in Real: weights, then the moments.
template <class Real>
std::vector<Real> plain_loops(const ModelConfig& config, const std::vector<double>& start,
                              const std::vector<std::vector<double>>& gradients) {
  std::vector<Real> weights(start.begin(), start.end()), first(start.size(), 0), second(start.size(), 0);
  for (std::size_t s = 1; s <= gradients.size(); ++s) {
    std::size_t i = 0;
    for (const WeightInfo& weight : weight_table(config)) {
      const Real decay = weight.shape.size() == 2 ? static_cast<Real>(options.weight_decay) : 0;
      for (std::int64_t n = 0; n < weight.size(); ++n, ++i) {
        const Real g = static_cast<Real>(gradients[s - 1][i]) * static_cast<Real>(scale);
        const auto beta1 = static_cast<Real>(options.beta1), beta2 = static_cast<Real>(options.beta2);
        const auto power = static_cast<Real>(s);
        first[i] = beta1 * first[i] + (1 - beta1) * g;
        second[i] = beta2 * second[i] + (1 - beta2) * g * g;
        const Real mean = first[i] / (1 - std::pow(beta1, power)), square = second[i] / (1 - std::pow(beta2, power));
        weights[i] -= static_cast<Real>(rates[s - 1]) *
                      (decay * weights[i] + mean / (std::sqrt(square) + static_cast<Real>(options.epsilon)));
      }
    }
  }
  weights.insert(weights.end(), first.begin(), first.end());
  weights.insert(weights.end(), second.begin(), second.end());
  return weights;
}

template <class Real>
Array<Real*> range_of(const Array<Real*>& all, std::int64_t begin, std::int64_t end) {
  return Array<Real*>(all.data() + begin, static_cast<std::size_t>(end - begin));
}

/// The same by the library, if owners have the ranges between these places: weights, moments.
template <class Real>
std::vector<Real> by_owners(const ModelConfig& config, const std::vector<double>& start,
                            const std::vector<std::vector<double>>& gradients, const std::vector<std::int64_t>& cuts) {
  const auto weights = to_device<Real*>(start, start.size());
  std::vector<AdamW<Real>> owners;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) owners.emplace_back(config, options, cuts[i], cuts[i + 1]);
  for (std::size_t s = 1; s <= gradients.size(); ++s) {
    const auto gradient = to_device<Real*>(gradients[s - 1], start.size());
    for (const AdamW<Real>& owner : owners) {
      owner.update(Execution(), static_cast<std::int64_t>(s), rates[s - 1], scale,
                   range_of(gradient, owner.begin(), owner.end()), range_of(weights, owner.begin(), owner.end()));
    }
  }
  Execution().fence();
  std::vector<Real> all = to_host(weights);
  const auto append = [&](const std::vector<Real>& part) { all.insert(all.end(), part.begin(), part.end()); };
  for (const AdamW<Real>& owner : owners) append(to_host(owner.first_moments()));
  for (const AdamW<Real>& owner : owners) append(to_host(owner.second_moments()));
  return all;
}

std::vector<double> numbers(const ModelConfig& config, std::uint64_t seed) {
  return random_matrix(1, parameter_count(config), seed).values;
}

std::vector<std::vector<double>> gradients_of_steps(const ModelConfig& config) {
  std::vector<std::vector<double>> gradients;
  for (std::size_t step = 0; step < rates.size(); ++step) gradients.push_back(numbers(config, 10 + step));
  return gradients;
}

template <class Real>
class AdamWSteps : public ::testing::Test {};
TYPED_TEST_SUITE(AdamWSteps, Reals, RealNames);

TYPED_TEST(AdamWSteps, are_those_of_plain_loops) {
  for (const Head head : {Head::tied, Head::separate}) {
    const ModelConfig config = odd_sizes(head);
    const auto start = numbers(config, 1);
    const auto gradients = gradients_of_steps(config);
    const auto exact = plain_loops<double>(config, start, gradients);
    const std::vector<std::int64_t> shape{3, parameter_count(config)};
    EXPECT_TRUE(all_close({by_owners<TypeParam>(config, start, gradients, {0, parameter_count(config)}), shape},
                          {exact, shape}, bound(exact, plain_loops<TypeParam>(config, start, gradients))));
  }
}

TYPED_TEST(AdamWSteps, have_the_same_bits_whoever_owns_which_weights) {
  const ModelConfig config = odd_sizes();
  const std::int64_t all = parameter_count(config);
  const auto start = numbers(config, 1);
  const auto gradients = gradients_of_steps(config);
  const auto whole = by_owners<TypeParam>(config, start, gradients, {0, all});
  for (const int owners : {2, 3, 7, 64}) {
    std::vector<std::int64_t> cuts;
    for (int owner = 0; owner <= owners; ++owner) cuts.push_back(Partition{all, owners}.begin(owner));
    EXPECT_TRUE(same_bits(by_owners<TypeParam>(config, start, gradients, cuts), whole, 1)) << owners << " owners";
  }
  for (std::int64_t cut = 0; cut < 40; ++cut) {
    EXPECT_TRUE(same_bits(by_owners<TypeParam>(config, start, gradients, {0, cut, 5000 + cut, all}), whole, 1)) << cut;
  }
}

TYPED_TEST(AdamWSteps, without_a_gradient_decay_matrices_and_leave_biases_and_norms_alone) {
  const ModelConfig config = odd_sizes();
  const std::vector<double> start(static_cast<std::size_t>(parameter_count(config)), 1), none(start.size(), 0);
  const auto result = by_owners<TypeParam>(config, start, {none}, {0, parameter_count(config)});
  std::size_t i = 0;
  for (const WeightInfo& weight : weight_table(config)) {
    const bool is_vector = weight.name.ends_with("bias") || weight.name.find("norm") != std::string::npos;
    for (std::int64_t n = 0; n < weight.size(); ++n, ++i)
      ASSERT_NEAR(result[i], is_vector ? 1 : 1 - 0.1 * 0.3, is_vector ? 0 : 1e-7) << weight.name;
  }
}

TYPED_TEST(AdamWSteps, of_the_first_gradient_are_of_the_size_of_the_learning_rate) {
  const ModelConfig config = odd_sizes();
  const std::vector<double> start(static_cast<std::size_t>(parameter_count(config)), 0);
  std::vector<double> gradient(start.size(), 1e3);
  gradient[5] = -1e-2;
  const auto result = by_owners<TypeParam>(config, start, {gradient}, {0, parameter_count(config)});
  EXPECT_NEAR(result[4], -0.1, 1e-7);
  EXPECT_NEAR(result[5], 0.1, 1e-4);  // epsilon is a 4,000th of the gradient
}

TYPED_TEST(AdamWSteps, take_the_memory_of_two_moments) {
  const AllocationRecorder recorder;
  const AdamW<TypeParam> owner(odd_sizes(), options, 6, 1234);
  const std::int64_t starts = static_cast<std::int64_t>(training::weight_runs(odd_sizes(), 6, 1234).size() + 1) * 8;
  EXPECT_EQ(AdamW<TypeParam>::bytes(6, 1234), 2 * 1228 * static_cast<std::int64_t>(sizeof(TypeParam)));
  EXPECT_EQ(total_bytes(recorder.without({})), AdamW<TypeParam>::bytes(6, 1234) + starts);
}

TEST(WeightRuns, join_neighbours_and_end_where_a_matrix_does) {
  ModelConfig config = odd_sizes();
  config.architecture = Architecture::standard;
  config.num_layers = 1;
  const std::int64_t embedding = 131 * 21, projections = 3 * 21 * 21, biases = 3 * 21;
  const auto runs = training::weight_runs(config, 10, embedding + projections + 5);
  const std::vector<training::WeightRun> expected{{10, embedding + projections, true},
                                                  {embedding + projections, embedding + projections + 5, false}};
  EXPECT_EQ(runs, expected);
  const auto all = training::weight_runs(config, 0, parameter_count(config));
  EXPECT_EQ(all.size(), 9u) << "embedding and q k v, out_proj, ff.0, ff.3, each with vectors behind it; the head";
  EXPECT_EQ(all[1], (training::WeightRun{embedding + projections, embedding + projections + biases, false}));
  EXPECT_EQ(all.back(), (training::WeightRun{parameter_count(config) - embedding, parameter_count(config), true}));
  EXPECT_TRUE(training::weight_runs(config, 8, 8).empty());
}

TEST(AdamW, owns_no_weight_where_there_are_more_ranks_than_weights) {
  const AdamW<float> owner(odd_sizes(), options, 100, 100);
  EXPECT_NO_THROW(owner.update(Execution(), 1, 0.1, 1, Array<float*>(), Array<float*>()));
}

std::string complaint(const AdamWOptions& wrong) {
  try {
    wrong.validate();
  } catch (const ConfigError& error) {
    EXPECT_FALSE(error.hint().empty());
    return error.what();
  }
  return "none";
}

TEST(AdamW, refuses_options_that_make_no_sense) {
  EXPECT_EQ(complaint({.beta1 = 0, .beta2 = 0, .epsilon = 1e-30, .weight_decay = 0}), "none");
  EXPECT_EQ(complaint({.beta1 = 1}), "beta1 = 1 is not below 1");
  EXPECT_EQ(complaint({.beta2 = -0.5}), "beta2 = -0.5 is below 0");
  EXPECT_EQ(complaint({.epsilon = 0}), "epsilon = 0 is not above 0");
  EXPECT_EQ(complaint({.weight_decay = -1}), "weight_decay = -1 is below 0");
  EXPECT_EQ(complaint({.weight_decay = INFINITY}), "weight_decay = inf is not a finite number");
  EXPECT_THROW(AdamW<float>(odd_sizes(), {.beta1 = 2}, 0, 1), ConfigError);
}

TEST(AdamW, refuses_ranges_arrays_and_steps_that_there_are_not) {
  const ModelConfig config = odd_sizes();
  EXPECT_THROW(AdamW<float>(config, options, -1, 1), ShapeError);
  EXPECT_THROW(AdamW<float>(config, options, 2, 1), ShapeError);
  EXPECT_THROW(AdamW<float>(config, options, 0, parameter_count(config) + 1), ShapeError);
  const AdamW<float> owner(config, options, 3, 8);
  const Array<float*> five("test::five", 5), four("test::four", 4);
  EXPECT_NO_THROW(owner.update(Execution(), 1, 0.1, 1, five, five));
  EXPECT_THROW(owner.update(Execution(), 1, 0.1, 1, four, five), ShapeError);
  EXPECT_THROW(owner.update(Execution(), 1, 0.1, 1, five, four), ShapeError);
  EXPECT_THROW(owner.update(Execution(), 0, 0.1, 1, five, five), Error);
  EXPECT_THROW(owner.update(Execution(), 1, NAN, 1, five, five), Error);
  EXPECT_THROW(owner.update(Execution(), 1, 0.1, INFINITY, five, five), Error);
}

}  // namespace
}  // namespace bsbr::testing
