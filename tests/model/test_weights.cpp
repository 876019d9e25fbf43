// The weights of a model: where they lie, and what random ones are.
#include <gtest/gtest.h>
#include <mpi.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "bsbr/error.hpp"
#include "bsbr/weights.hpp"
#include "support/bits.hpp"
#include "support/random_model.hpp"
#include "support/reals.hpp"

namespace bsbr::testing {
namespace {

template <class Real>
std::vector<Real> to_host(const Array<Real*>& data) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), data);
  return {host.data(), host.data() + host.size()};
}

/// The numbers of one weight.
template <class Real>
std::vector<Real> values_of(const Weights<Real>& weights, const WeightInfo& weight) {
  const auto all = to_host(weights.data());
  const auto begin = all.begin() + weights.offset(weight.name);
  return {begin, begin + weight.size()};
}

WeightInfo find(const ModelConfig& config, const std::string& name) {
  for (const auto& weight : weight_table(config)) {
    if (weight.name == name) return weight;
  }
  throw std::runtime_error("no " + name);
}

template <class Error>
std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

class WeightsOf : public ::testing::TestWithParam<Architecture> {};

TEST_P(WeightsOf, lie_one_after_the_other_in_the_order_of_the_table) {
  const ModelConfig config = small_config(GetParam());
  const Weights<double> weights(config);
  std::int64_t offset = 0;
  for (const auto& weight : weight_table(config)) {
    EXPECT_EQ(weights.offset(weight.name), offset) << weight.name;
    const double* begin = weights.data().data() + offset;
    if (weight.shape.size() == 2) {
      const auto matrix = weights.matrix(weight.name);
      EXPECT_EQ(matrix.data(), begin) << weight.name;
      EXPECT_EQ(static_cast<std::int64_t>(matrix.extent(0)), weight.shape[0]) << weight.name;
      EXPECT_EQ(static_cast<std::int64_t>(matrix.extent(1)), weight.shape[1]) << weight.name;
    } else {
      const auto vector = weights.vector(weight.name);
      EXPECT_EQ(vector.data(), begin) << weight.name;
      EXPECT_EQ(static_cast<std::int64_t>(vector.extent(0)), weight.shape[0]) << weight.name;
    }
    offset += weight.size();
  }
  EXPECT_EQ(static_cast<std::int64_t>(weights.data().extent(0)), offset);
  EXPECT_EQ(offset, parameter_count(config));
}

TEST_P(WeightsOf, of_many_layers_lie_in_the_order_of_the_table) {
  ModelConfig config = small_config(GetParam());
  config.num_layers = 123;
  const Weights<float> weights(config);
  std::int64_t offset = 0;
  for (const auto& weight : weight_table(config)) {
    ASSERT_EQ(weights.offset(weight.name), offset) << weight.name;
    offset += weight.size();
  }
}

TEST_P(WeightsOf, start_as_zeros) {
  for (const double value : to_host(Weights<double>(small_config(GetParam())).data())) ASSERT_EQ(value, 0);
}

TEST_P(WeightsOf, neighbours_are_one_matrix) {
  const ModelConfig config = small_config(GetParam());
  const Weights<double> weights(config);
  const auto names = input_projections(GetParam());
  const auto count = static_cast<int>(names.size());
  const std::string prefix = "layers.1.attention.";
  const auto matrix = weights.matrix(prefix + names[0] + ".weight", count);
  const auto vector = weights.vector(prefix + names[0] + ".bias", count);
  EXPECT_EQ(static_cast<std::int64_t>(matrix.extent(0)), count * config.attention_dim());
  EXPECT_EQ(static_cast<std::int64_t>(matrix.extent(1)), config.hidden_dim);
  EXPECT_EQ(static_cast<std::int64_t>(vector.extent(0)), count * config.attention_dim());
  for (int i = 0; i < count; ++i) {
    const auto name = prefix + names[static_cast<std::size_t>(i)];
    EXPECT_EQ(matrix.data() + i * config.attention_dim() * config.hidden_dim, weights.matrix(name + ".weight").data())
        << name;
    EXPECT_EQ(vector.data() + i * config.attention_dim(), weights.vector(name + ".bias").data()) << name;
  }
}

TEST_P(WeightsOf, unknown_names_are_refused) {
  const Weights<float> weights(small_config(GetParam()));
  const std::string message = "a " + std::string(to_string(GetParam())) + " model has no weight layers.2.ff.0.weight";
  EXPECT_EQ(message_of<Error>([&] { weights.offset("layers.2.ff.0.weight"); }), message);
  EXPECT_EQ(message_of<Error>([&] { weights.matrix("layers.2.ff.0.weight"); }), message);
  EXPECT_EQ(message_of<Error>([&] { weights.vector("layers.2.ff.0.weight"); }), message);
  for (const char* name : {"", "layers.", "layers.0", "layers.0.", "layers.-1.ff.0.weight", "layers.00.ff.0.weight",
                           "layers.+0.ff.0.weight", "layers.0.layers.0.ff.0.weight", "layers.0.embedding.weight",
                           "ff.0.weight", "layers.18446744073709551616.ff.0.weight"}) {
    EXPECT_THROW(weights.offset(name), Error) << name;
  }
}

std::vector<Architecture> all_architectures() {
  std::vector<Architecture> all;
  for (const auto& entry : architectures) all.push_back(entry.value);
  return all;
}
INSTANTIATE_TEST_SUITE_P(Architectures, WeightsOf, ::testing::ValuesIn(all_architectures()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(Weights, need_a_valid_configuration) {
  ModelConfig config = small_config(Architecture::bsbr);
  config.num_heads = 5;
  EXPECT_THROW(Weights<float>{config}, ConfigError);
}

TEST(Weights, r_and_h_are_one_matrix) {
  const ModelConfig config = small_config(Architecture::bsbr);
  const Weights<double> weights(config);
  const auto both = weights.matrix("layers.0.attention.meta_r_proj.weight", 2);
  EXPECT_EQ(both.data() + config.hidden_dim * config.hidden_dim,
            weights.matrix("layers.0.attention.meta_h_proj.weight").data());
}

TEST(Weights, keep_their_numbers_when_causality_and_chunk_size_change) {
  ModelConfig config = small_config(Architecture::bsbr);
  auto weights = random_weights<float>(config, 1);
  const auto before = to_host(weights.data());
  config.causality = Causality::bidirectional;
  config.chunk_size = 77;
  weights.set_config(config);
  EXPECT_EQ(weights.config().causality, Causality::bidirectional);
  EXPECT_EQ(weights.config().chunk_size, 77);
  EXPECT_TRUE(same_bits(to_host(weights.data()), before, 1));
}

TEST(Weights, refuse_a_configuration_with_another_table) {
  const ModelConfig config = small_config(Architecture::bsbr);
  Weights<float> weights(config);
  const auto refused = [&](const std::function<void(ModelConfig&)>& change) {
    ModelConfig other = config;
    change(other);
    EXPECT_THROW(weights.set_config(other), ConfigError);
    EXPECT_EQ(weights.config().hidden_dim, config.hidden_dim);
    EXPECT_EQ(weights.config().architecture, config.architecture);
    EXPECT_EQ(weights.config().chunk_size, config.chunk_size);
  };
  refused([](ModelConfig& other) { other.hidden_dim = 15; });
  refused([](ModelConfig& other) { other.num_layers = 3; });
  refused([](ModelConfig& other) { other.ff_dim = 20; });
  refused([](ModelConfig& other) { other.vocab_size = 32; });
  refused([](ModelConfig& other) { other.compression_factor = 3; });
  refused([](ModelConfig& other) { other.architecture = Architecture::standard; });
  refused([](ModelConfig& other) { other.chunk_size = 0; });
}

// ---- Random weights -------------------------------------------------------------------------------------------------

/// Sizes large enough for statistics.
ModelConfig wide_config() {
  ModelConfig config = small_config(Architecture::bsbr);
  config.vocab_size = 500;
  config.hidden_dim = 60;
  config.num_heads = 4;
  config.ff_dim = 200;
  config.compression_factor = 6;
  return config;
}

TEST(RandomWeights, depend_on_the_seed_only) {
  const ModelConfig config = wide_config();
  const auto first = to_host(random_weights<double>(config, 1).data());
  EXPECT_TRUE(same_bits(to_host(random_weights<double>(config, 1).data()), first, 1));
  const auto second = to_host(random_weights<double>(config, 2).data());
  std::size_t same = 0, drawn = 0;
  const Weights<double> places(config);
  for (const auto& weight : weight_table(config)) {
    if (weight.initialisation == Initialisation::ones || weight.initialisation == Initialisation::zeros) continue;
    for (std::int64_t i = 0; i < weight.size(); ++i) {
      const auto place = static_cast<std::size_t>(places.offset(weight.name) + i);
      same += first[place] == second[place] ? 1 : 0;
      ++drawn;
    }
  }
  EXPECT_GT(drawn, 100000u);
  EXPECT_EQ(same, 0u);
}

TEST(RandomWeights, are_the_same_on_all_ranks) {
  auto numbers = to_host(random_weights<double>(wide_config(), 3).data());
  const auto mine = numbers;
  MPI_Bcast(numbers.data(), static_cast<int>(numbers.size()), MPI_DOUBLE, 0, MPI_COMM_WORLD);
  EXPECT_TRUE(same_bits(mine, numbers, 1));
}

TEST(RandomWeights, in_float_are_those_in_double_rounded) {
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{42}, ~std::uint64_t{0}}) {
    const auto doubles = to_host(random_weights<double>(wide_config(), seed).data());
    EXPECT_TRUE(same_bits(to_host(random_weights<float>(wide_config(), seed).data()),
                          std::vector<float>(doubles.begin(), doubles.end()), 1));
  }
}

TEST(RandomWeights, of_a_weight_depend_on_its_name_and_not_on_the_others) {
  const ModelConfig config = wide_config();
  ModelConfig deeper = config;
  deeper.num_layers = 4;
  deeper.vocab_size = 77;
  deeper.causality = Causality::bidirectional;
  const auto weights = random_weights<double>(config, 5), others = random_weights<double>(deeper, 5);
  for (const auto& weight : weight_table(config)) {
    if (weight.name == "embedding.weight") continue;
    EXPECT_TRUE(same_bits(values_of(others, weight), values_of(weights, weight), 1)) << weight.name;
  }
  const auto query = values_of(weights, find(config, "layers.0.attention.q_proj.weight"));
  for (const char* name :
       {"layers.0.attention.k_proj.weight", "layers.1.attention.q_proj.weight", "layers.0.attention.out_proj.weight"}) {
    EXPECT_NE(values_of(weights, find(config, name)), query) << name;
  }
}

TEST(RandomWeights, have_the_mean_the_variance_and_the_range_of_their_distributions) {
  const ModelConfig config = wide_config();
  const auto weights = random_weights<double>(config, 6);
  for (const auto& weight : weight_table(config)) {
    SCOPED_TRACE(weight.name);
    const auto values = values_of(weights, weight);
    const auto n = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double variance = 0, largest = 0;
    for (const double value : values) {
      variance += (value - mean) * (value - mean) / n;
      largest = std::max(largest, std::abs(value));
    }
    if (weight.initialisation == Initialisation::ones || weight.initialisation == Initialisation::zeros) {
      EXPECT_EQ(mean, weight.initialisation == Initialisation::ones ? 1 : 0);
      EXPECT_EQ(variance, 0);
      continue;
    }
    // Five standard deviations of both estimates: the numbers are fixed, so this either holds for good or does not.
    const bool normal = weight.initialisation == Initialisation::normal;
    const double expected = weight.scale * weight.scale / (normal ? 1 : 3), fourth = normal ? 3 : 9.0 / 5;
    EXPECT_LT(std::abs(mean), 5 * std::sqrt(expected / n));
    EXPECT_LT(std::abs(variance - expected), 5 * expected * std::sqrt((fourth - 1) / n));
    EXPECT_LE(largest, (normal ? 6 : 1) * weight.scale);
    EXPECT_GE(largest, (normal ? 3.5 : 1 - 10 / n) * weight.scale);
  }
}

TEST(RandomWeights,
     of_a_seed_stay_what_they_are) {  // models that are told by their seed must not change with the version
  const auto config = small_config(Architecture::bsbr);
  const auto weights = random_weights<double>(config, 2024);
  const auto query = values_of(weights, find(config, "layers.0.attention.q_proj.weight"));
  const auto embedding = values_of(weights, find(config, "embedding.weight"));
  EXPECT_DOUBLE_EQ(query[0], -0.0060691176266818459);
  EXPECT_DOUBLE_EQ(query[143], 0.093069850077692501);
  EXPECT_DOUBLE_EQ(embedding[0], -0.32484011656742262);
  EXPECT_DOUBLE_EQ(embedding[371], -1.4860319436320535);
}

}  // namespace
}  // namespace bsbr::testing
