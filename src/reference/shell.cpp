// The transformer around the attentions: embedding, positions, norm, feed-forward, the loop over layers.
#include <array>
#include <cmath>
#include <stdexcept>

#include "architectures/traits.hpp"
#include "reference/parts.hpp"

namespace bsbr::reference {
namespace {

/// P[t, 2m] = sin(t·ω_m), P[t, 2m+1] = cos(t·ω_m), ω_m = 10000^(−2m/D)
double position(std::int64_t token, std::int64_t column, std::int64_t hidden_dim) {
  const std::int64_t m = column / 2;
  const double angle =
      static_cast<double>(token) * std::pow(10000.0, -2.0 * static_cast<double>(m) / static_cast<double>(hidden_dim));
  return column % 2 == 0 ? std::sin(angle) : std::cos(angle);
}

const Matrix& find(const WeightMap& weights, const std::string& name) {
  const auto found = weights.find(name);
  require(found != weights.end(), "no weight " + name);
  return found->second;
}

Matrix linear(const WeightMap& weights, const std::string& name, const Matrix& x) {
  return reference::linear(x, find(weights, name + ".weight"), find(weights, name + ".bias"));
}

Matrix layer_norm(const WeightMap& weights, const std::string& name, const Matrix& x) {
  return reference::layer_norm(x, find(weights, name + ".weight"), find(weights, name + ".bias"));
}

void add(Matrix& x, const Matrix& y) {
  for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] += y.values[i];
}

/// x at the last real token of each chunk, [chunks, D]; zeros for a chunk without one.
Matrix chunk_ends(const Matrix& x, std::int64_t chunk_size, const Mask& mask) {
  Matrix ends(count_chunks(x.rows, chunk_size), x.columns);
  for (std::int64_t chunk = 0; chunk < ends.rows; ++chunk) {
    const std::int64_t token = last_real_token(chunk_tokens(chunk, chunk_size, x.rows), mask);
    for (std::int64_t column = 0; token >= 0 && column < x.columns; ++column) ends(chunk, column) = x(token, column);
  }
  return ends;
}

/// Attention(y), out_proj included; y is the output of LN1, [L, D].
Matrix attention_block(const ModelConfig& config, const WeightMap& weights, const std::string& prefix, const Matrix& y,
                       const Mask& mask) {
  const Traits& special = traits(config.architecture);
  AttentionInput input;
  const std::array token_inputs{&input.query, &input.key, &input.value, &input.gate};
  for (std::size_t i = 0; i < special.token_projections.size(); ++i) {
    *token_inputs.at(i) = linear(weights, prefix + special.token_projections[i], y);
  }
  const std::array chunk_inputs{&input.retrieval_query, &input.retrieval_key};
  for (std::size_t i = 0; i < special.chunk_projections.size(); ++i) {
    const Matrix ends = chunk_ends(y, config.chunk_size, effective_mask(config, mask));
    *chunk_inputs.at(i) = linear(weights, prefix + special.chunk_projections[i], ends);
  }
  if (compresses_states(config)) {
    input.compress_weight = find(weights, prefix + "compress_proj.weight");
    input.compress_bias = find(weights, prefix + "compress_proj.bias");
    input.decompress_weight = find(weights, prefix + "decompress_proj.weight");
    input.decompress_bias = find(weights, prefix + "decompress_proj.bias");
  }
  return linear(weights, prefix + "out_proj", attention(config, input, mask));
}

/// W2·GELU(W1·y + b1) + b2; y is the output of LN2, [L, D].
Matrix feed_forward(const WeightMap& weights, const std::string& prefix, const Matrix& y) {
  Matrix inner = linear(weights, prefix + "0", y);
  for (double& z : inner.values) z = gelu(z);
  return linear(weights, prefix + "3", inner);
}

}  // namespace

Matrix embed(const std::vector<std::int64_t>& ids, const Matrix& embedding) {
  Matrix x(static_cast<std::int64_t>(ids.size()), embedding.columns);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const std::int64_t id = ids[static_cast<std::size_t>(t)];
    require(id >= 0 && id < embedding.rows, "id " + std::to_string(id) + " is outside the vocabulary");
    for (std::int64_t column = 0; column < x.columns; ++column)
      x(t, column) = embedding(id, column) + position(t, column, x.columns);
  }
  return x;
}

Matrix layer_norm(const Matrix& x, const Matrix& weight, const Matrix& bias) {
  require(weight.rows == 1 && bias.rows == 1 && weight.columns == x.columns && bias.columns == x.columns,
          "weight and bias of a layer norm are [1, columns of x]");
  const auto width = static_cast<double>(x.columns);
  Matrix y(x.rows, x.columns);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    double mean = 0;
    long double variance = 0;  // which has room for the squares of all doubles
    for (std::int64_t column = 0; column < x.columns; ++column) mean += x(t, column) / width;
    for (std::int64_t column = 0; column < x.columns; ++column) variance += squared(x(t, column) - mean) / width;
    const auto deviation = static_cast<double>(std::sqrt(variance + 1e-5));
    for (std::int64_t column = 0; column < x.columns; ++column) {
      y(t, column) = (x(t, column) - mean) / deviation * weight(0, column) + bias(0, column);
    }
  }
  return y;
}

Matrix linear(const Matrix& x, const Matrix& weight, const Matrix& bias) {
  require(weight.columns == x.columns, "the weight of a linear layer is [out, columns of x]");
  require(bias.rows == 1 && bias.columns == weight.rows, "the bias of a linear layer is [1, out]");
  Matrix y(x.rows, weight.rows);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t out = 0; out < weight.rows; ++out) y(t, out) = dot(x, t, weight, out) + bias(0, out);
  }
  return y;
}

double gelu(double z) { return 0.5 * z * (1 + std::erf(z / std::sqrt(2.0))); }

Result forward(const ModelConfig& config, const WeightMap& weights, const std::vector<std::int64_t>& ids,
               const Mask& mask) {
  require(mask.empty() || mask.size() == ids.size(), "the mask is as long as the sequence, or empty");
  require(config.chunk_size >= 1, "chunk_size is at least 1");
  Result result;
  Matrix x = embed(ids, find(weights, "embedding.weight"));
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    add(x,
        attention_block(config, weights, prefix + "attention.", layer_norm(weights, prefix + "layer_norm1", x), mask));
    add(x, feed_forward(weights, prefix + "ff.", layer_norm(weights, prefix + "layer_norm2", x)));
    result.layers.push_back(x);
  }
  result.hidden_states = layer_norm(weights, "layer_norm", x);
  return result;
}

}  // namespace bsbr::reference
