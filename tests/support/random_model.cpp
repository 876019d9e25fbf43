// Random models: see random_model.hpp. The distributions of the standard library differ between its implementations,
// its generators do not, so numbers are made from the generator's bits.
#include "support/random_model.hpp"

#include <cmath>
#include <random>

#include "architectures/traits.hpp"

namespace bsbr::testing {
namespace {

/// In (0, 1).
double uniform(std::mt19937_64& generator) { return (static_cast<double>(generator() >> 11) + 0.5) * 0x1p-53; }

/// Box and Muller.
double normal(std::mt19937_64& generator) {
  const double radius = std::sqrt(-2 * std::log(uniform(generator)));
  return radius * std::cos(2 * 3.14159265358979323846 * uniform(generator));
}

}  // namespace

ModelConfig small_config(Architecture architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = 31;
  config.hidden_dim = 12;
  config.num_layers = 2;
  config.num_heads = traits(architecture).has_one_head ? 1 : 3;
  config.ff_dim = 19;
  config.chunk_size = 5;
  config.window_size = 6;
  config.expansion_factor = 2;
  config.temperature = 0.7;
  return config;
}

ModelConfig gradient_config(Head head) {
  ModelConfig config;
  config.hidden_dim = 21;
  config.num_heads = 3;
  config.num_layers = 2;
  config.chunk_size = 5;
  config.ff_dim = 34;
  config.vocab_size = 13;
  config.head = head;
  return config;
}

reference::Matrix random_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed, double deviation) {
  std::mt19937_64 generator(seed);
  reference::Matrix matrix(rows, columns);
  for (double& value : matrix.values) value = deviation * normal(generator);
  return matrix;
}

reference::WeightMap random_weight_map(const ModelConfig& config, std::uint64_t seed) {
  reference::WeightMap weights;
  for (const auto& weight : weight_table(config)) {
    const bool vector = weight.shape.size() == 1;
    const double deviation = vector ? 0.2 : 1.5 / std::sqrt(static_cast<double>(weight.shape.back()));
    auto matrix = random_matrix(vector ? 1 : weight.shape[0], weight.shape.back(), ++seed, deviation);
    if (weight.initialisation == Initialisation::ones) {
      for (double& value : matrix.values) value += 1;
    }
    weights[weight.name] = std::move(matrix);
  }
  return weights;
}

reference::AttentionInput random_attention_input(const ModelConfig& config, std::int64_t length, std::uint64_t seed) {
  const std::int64_t width = config.attention_dim(), chunks = (length + config.chunk_size - 1) / config.chunk_size;
  reference::AttentionInput input;
  input.query = random_matrix(length, width, seed + 1);
  input.key = random_matrix(length, width, seed + 2);
  input.value = random_matrix(length, width, seed + 3);
  if (traits(config.architecture).has_gate()) input.gate = random_matrix(length, width, seed + 4);
  if (!traits(config.architecture).has_retrieval()) return input;
  input.retrieval_query = random_matrix(chunks, width, seed + 5);
  input.retrieval_key = random_matrix(chunks, width, seed + 6);
  if (has_null_chunk(config)) input.null_logit = random_matrix(1, config.num_heads, seed + 11);
  if (gates_retrieval(config)) input.retrieval_gate = random_matrix(1, config.num_heads, seed + 12);
  if (!compresses_states(config)) return input;
  const std::int64_t whole = config.head_dim() * config.head_dim(), compressed = config.state_size();
  input.compress_weight = random_matrix(compressed, whole, seed + 7);
  input.compress_bias = random_matrix(1, compressed, seed + 8);
  input.decompress_weight = random_matrix(whole, compressed, seed + 9);
  input.decompress_bias = random_matrix(1, whole, seed + 10);
  return input;
}

std::vector<std::int64_t> random_ids(std::int64_t length, std::int64_t vocab_size, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(length));
  for (auto& id : ids) id = static_cast<std::int64_t>(generator() % static_cast<std::uint64_t>(vocab_size));
  return ids;
}

reference::Mask random_mask(std::int64_t length, double padding, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  reference::Mask mask(static_cast<std::size_t>(length));
  for (auto& real : mask) real = uniform(generator) >= padding;
  return mask;
}

}  // namespace bsbr::testing
