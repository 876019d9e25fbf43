// The transformer around the attentions: the loop over layers. Each function has its gradient beside it, which takes
// the same arguments and the gradient of the result, computes anew what it needs, adds to the gradients of weights, and
// returns that of its input.
#include <array>
#include <utility>

#include "architectures/traits.hpp"
#include "reference/parts.hpp"

namespace bsbr::reference {
namespace {

Matrix linear(const WeightMap& weights, const std::string& name, const Matrix& x, Rounding rounding = Rounding::none) {
  return reference::linear(factor(x, rounding), factor(find(weights, name + ".weight"), rounding),
                           find(weights, name + ".bias"));
}

Matrix linear_gradient(const WeightMap& weights, const std::string& name, const Matrix& x, const Matrix& dy,
                       WeightMap& gradients) {
  return reference::linear_gradient(x, find(weights, name + ".weight"), dy, gradients.at(name + ".weight"),
                                    gradients.at(name + ".bias"));
}

Matrix layer_norm(const WeightMap& weights, const std::string& name, const Matrix& x) {
  return reference::layer_norm(x, find(weights, name + ".weight"), find(weights, name + ".bias"));
}

Matrix layer_norm_gradient(const WeightMap& weights, const std::string& name, const Matrix& x, const Matrix& dy,
                           WeightMap& gradients) {
  return reference::layer_norm_gradient(x, find(weights, name + ".weight"), dy, gradients.at(name + ".weight"),
                                        gradients.at(name + ".bias"));
}

void add(Matrix& x, const Matrix& y) {
  for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] += y.values[i];
}

/// What a dropout leaves of x [tokens, D] at a place of one layer, and the gradient of x where x is that of the result.
using Drop = std::function<Matrix(DropoutPlace, Matrix)>;

Drop drop_in(std::int64_t layer, const Dropout& dropout) {
  return [=](DropoutPlace place, Matrix x) {
    for (std::int64_t t = 0; dropout && t < x.rows; ++t) {
      for (std::int64_t column = 0; column < x.columns; ++column) x(t, column) *= dropout(place, layer, t, column);
    }
    return x;
  };
}

/// For each chunk the row of x that stands for it, that of its last real token; −1 for a chunk without one.
std::vector<std::int64_t> end_rows(const ModelConfig& config, const Matrix& x, const Mask& mask) {
  std::vector<std::int64_t> rows;
  for (std::int64_t chunk = 0; chunk < count_chunks(x.rows, config.chunk_size); ++chunk) {
    rows.push_back(last_real_token(chunk_tokens(chunk, config.chunk_size, x.rows), effective_mask(config, mask)));
  }
  return rows;
}

/// x at the last real token of each chunk, [chunks, D]; zeros for a chunk without one.
Matrix chunk_ends(const ModelConfig& config, const Matrix& x, const Mask& mask) {
  const auto rows = end_rows(config, x, mask);
  Matrix ends(static_cast<std::int64_t>(rows.size()), x.columns);
  for (std::int64_t chunk = 0; chunk < ends.rows; ++chunk) {
    const std::int64_t token = rows[static_cast<std::size_t>(chunk)];
    for (std::int64_t column = 0; token >= 0 && column < x.columns; ++column) ends(chunk, column) = x(token, column);
  }
  return ends;
}

Matrix chunk_ends_gradient(const ModelConfig& config, const Matrix& x, const Mask& mask, const Matrix& dends) {
  const auto rows = end_rows(config, x, mask);
  Matrix dx = zeros_like(x);
  for (std::int64_t chunk = 0; chunk < dends.rows; ++chunk) {
    const std::int64_t token = rows[static_cast<std::size_t>(chunk)];
    if (token >= 0) add_row(dx, token, 1, dends, chunk);
  }
  return dx;
}

/// The mean of x over the real tokens of each chunk, [chunks, D]; zeros for a chunk without one.
Matrix chunk_means(const ModelConfig& config, const Matrix& x, const Mask& given) {
  const Mask mask = effective_mask(config, given);
  Matrix means(count_chunks(x.rows, config.chunk_size), x.columns);
  for (std::int64_t chunk = 0; chunk < means.rows; ++chunk) {
    const Range tokens = chunk_tokens(chunk, config.chunk_size, x.rows);
    const double share = share_of_token(tokens, mask);
    for (const std::int64_t t : real_tokens(tokens, mask)) add_row(means, chunk, share, x, t);
  }
  return means;
}

Matrix chunk_means_gradient(const ModelConfig& config, const Matrix& x, const Mask& given, const Matrix& dmeans) {
  const Mask mask = effective_mask(config, given);
  Matrix dx = zeros_like(x);
  for (std::int64_t chunk = 0; chunk < dmeans.rows; ++chunk) {
    const Range tokens = chunk_tokens(chunk, config.chunk_size, x.rows);
    const double share = share_of_token(tokens, mask);
    for (const std::int64_t t : real_tokens(tokens, mask)) add_row(dx, t, share, dmeans, chunk);
  }
  return dx;
}

/// What projection i of chunks is given: chunk_ends, or for h, the last one, with router_key = mean chunk_means.
bool takes_means(const ModelConfig& config, std::size_t i) {
  return averages_router_keys(config) && i + 1 == traits(config.architecture).chunk_projections.size();
}

Matrix chunk_rows(const ModelConfig& config, std::size_t i, const Matrix& x, const Mask& mask) {
  return takes_means(config, i) ? chunk_means(config, x, mask) : chunk_ends(config, x, mask);
}

Matrix chunk_rows_gradient(const ModelConfig& config, std::size_t i, const Matrix& x, const Mask& mask,
                           const Matrix& drows) {
  return takes_means(config, i) ? chunk_means_gradient(config, x, mask, drows)
                                : chunk_ends_gradient(config, x, mask, drows);
}

/// What the projections of tokens make, in the order of Traits::token_projections.
std::array<Matrix*, 4> token_inputs(AttentionInput& input) {
  return {&input.query, &input.key, &input.value, &input.gate};
}

/// What the projections of chunks make, in the order of Traits::chunk_projections.
std::array<Matrix*, 2> chunk_inputs(AttentionInput& input) { return {&input.retrieval_query, &input.retrieval_key}; }

/// The weights among what an attention is given: projections of states, null logits, factors of the retrieval.
std::vector<std::pair<std::string, Matrix*>> weights_in(const ModelConfig& config, AttentionInput& input) {
  std::vector<std::pair<std::string, Matrix*>> all;
  if (compresses_states(config)) {
    all = {{"compress_proj.weight", &input.compress_weight},
           {"compress_proj.bias", &input.compress_bias},
           {"decompress_proj.weight", &input.decompress_weight},
           {"decompress_proj.bias", &input.decompress_bias}};
  }
  if (has_null_chunk(config)) all.emplace_back("null_logit", &input.null_logit);
  if (gates_retrieval(config)) all.emplace_back("retrieval_gate", &input.retrieval_gate);
  return all;
}

/// What the attention is given; y is the output of LN1, [L, D].
AttentionInput attention_input(const ModelConfig& config, const WeightMap& weights, const std::string& prefix,
                               const Matrix& y, const Mask& mask, Rounding rounding = Rounding::none) {
  const Traits& special = traits(config.architecture);
  AttentionInput input;
  for (std::size_t i = 0; i < special.token_projections.size(); ++i) {
    *token_inputs(input).at(i) = linear(weights, prefix + special.token_projections[i], y, rounding);
  }
  for (Matrix* kept : {&input.query, &input.key, &input.value}) *kept = factor(*kept, rounding);
  for (std::size_t i = 0; i < special.chunk_projections.size(); ++i) {
    *chunk_inputs(input).at(i) =
        linear(weights, prefix + special.chunk_projections[i], chunk_rows(config, i, y, mask), rounding);
  }
  input.rounding = rounding;
  for (const auto& [name, weight] : weights_in(config, input)) *weight = find(weights, prefix + name);
  return input;
}

Matrix attention_input_gradient(const ModelConfig& config, const WeightMap& weights, const std::string& prefix,
                                const Matrix& y, const Mask& mask, AttentionInput dinput, WeightMap& gradients) {
  const Traits& special = traits(config.architecture);
  Matrix dy = zeros_like(y);
  for (std::size_t i = 0; i < special.token_projections.size(); ++i) {
    add(dy, linear_gradient(weights, prefix + special.token_projections[i], y, *token_inputs(dinput).at(i), gradients));
  }
  for (std::size_t i = 0; i < special.chunk_projections.size(); ++i) {
    const Matrix drows = linear_gradient(weights, prefix + special.chunk_projections[i], chunk_rows(config, i, y, mask),
                                         *chunk_inputs(dinput).at(i), gradients);
    add(dy, chunk_rows_gradient(config, i, y, mask, drows));
  }
  for (const auto& [name, dweight] : weights_in(config, dinput)) add(gradients.at(prefix + name), *dweight);
  return dy;
}

/// Attention(y), out_proj included; y is the output of LN1, [L, D].
Matrix attention_block(const ModelConfig& config, const WeightMap& weights, const std::string& prefix, const Matrix& y,
                       const Mask& mask, Rounding rounding) {
  const AttentionInput input = attention_input(config, weights, prefix, y, mask, rounding);
  return linear(weights, prefix + "out_proj", attention(config, input, mask), rounding);
}

Matrix attention_block_gradient(const ModelConfig& config, const WeightMap& weights, const std::string& prefix,
                                const Matrix& y, const Mask& mask, const Matrix& dresult, WeightMap& gradients) {
  const AttentionInput input = attention_input(config, weights, prefix, y, mask);
  const Matrix dheads =
      linear_gradient(weights, prefix + "out_proj", attention(config, input, mask), dresult, gradients);
  return attention_input_gradient(config, weights, prefix, y, mask, attention_gradient(config, input, mask, dheads),
                                  gradients);
}

/// W2·GELU(W1·y + b1) + b2; y is the output of LN2, [L, D].
Matrix feed_forward(const WeightMap& weights, const std::string& prefix, const Matrix& y, Rounding rounding) {
  Matrix inner = linear(weights, prefix + "0", y, rounding);
  for (double& z : inner.values) z = gelu(z);
  return linear(weights, prefix + "3", inner, rounding);
}

Matrix feed_forward_gradient(const WeightMap& weights, const std::string& prefix, const Matrix& y,
                             const Matrix& dresult, WeightMap& gradients) {
  const Matrix inner = linear(weights, prefix + "0", y);
  Matrix activated = inner;
  for (double& z : activated.values) z = gelu(z);
  Matrix dinner = linear_gradient(weights, prefix + "3", activated, dresult, gradients);
  for (std::size_t i = 0; i < inner.values.size(); ++i) dinner.values[i] *= gelu_gradient(inner.values[i]);
  return linear_gradient(weights, prefix + "0", y, dinner, gradients);
}

/// x + drop(Attention(LN1(x)))
Matrix attend_residually(const ModelConfig& config, const WeightMap& weights, const std::string& prefix, Matrix x,
                         const Mask& mask, const Drop& drop, Rounding rounding = Rounding::none) {
  add(x,
      drop(DropoutPlace::attention, attention_block(config, weights, prefix + "attention.",
                                                    layer_norm(weights, prefix + "layer_norm1", x), mask, rounding)));
  return x;
}

/// x + drop(FF(LN2(x)))
Matrix feed_residually(const WeightMap& weights, const std::string& prefix, Matrix x, const Drop& drop,
                       Rounding rounding) {
  add(x, drop(DropoutPlace::feed_forward,
              feed_forward(weights, prefix + "ff.", layer_norm(weights, prefix + "layer_norm2", x), rounding)));
  return x;
}

/// One layer, [L, D] → [L, D].
Matrix layer(const ModelConfig& config, const WeightMap& weights, const std::string& prefix, const Matrix& x,
             const Mask& mask, const Drop& drop, Rounding rounding) {
  return feed_residually(weights, prefix, attend_residually(config, weights, prefix, x, mask, drop, rounding), drop,
                         rounding);
}

Matrix layer_gradient(const ModelConfig& config, const WeightMap& weights, const std::string& prefix, const Matrix& x,
                      const Mask& mask, const Drop& drop, Matrix dx, WeightMap& gradients) {
  const auto norm_gradient = [&](const std::string& norm, const Matrix& input, const Matrix& dy) {
    return layer_norm_gradient(weights, prefix + norm, input, dy, gradients);
  };
  const Matrix middle = attend_residually(config, weights, prefix, x, mask, drop);
  const Matrix fed = layer_norm(weights, prefix + "layer_norm2", middle);
  const Matrix dfed =
      feed_forward_gradient(weights, prefix + "ff.", fed, drop(DropoutPlace::feed_forward, dx), gradients);
  add(dx, norm_gradient("layer_norm2", middle, dfed));
  const Matrix attended = layer_norm(weights, prefix + "layer_norm1", x);
  const Matrix dattended = attention_block_gradient(config, weights, prefix + "attention.", attended, mask,
                                                    drop(DropoutPlace::attention, dx), gradients);
  add(dx, norm_gradient("layer_norm1", x, dattended));
  return dx;
}

std::string layer_prefix(std::int64_t layer) { return "layers." + std::to_string(layer) + "."; }

/// The first layer's input.
Matrix drop_embedded(const WeightMap& weights, const std::vector<std::int64_t>& ids, const Dropout& dropout) {
  return drop_in(0, dropout)(DropoutPlace::embedding, embed(ids, find(weights, "embedding.weight")));
}

}  // namespace

const Matrix& find(const WeightMap& weights, const std::string& name) {
  const auto found = weights.find(name);
  require(found != weights.end(), "no weight " + name);
  return found->second;
}

Result forward(const ModelConfig& config, const WeightMap& weights, const std::vector<std::int64_t>& ids,
               const Mask& mask, const Dropout& dropout, Rounding rounding) {
  require(mask.empty() || mask.size() == ids.size(), "the mask is as long as the sequence, or empty");
  require(config.chunk_size >= 1, "chunk_size is at least 1");
  Result result;
  Matrix x = drop_embedded(weights, ids, dropout);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    x = layer(config, weights, layer_prefix(i), x, mask, drop_in(i, dropout), rounding);
    result.layers.push_back(x);
  }
  result.hidden_states = layer_norm(weights, "layer_norm", x);
  return result;
}

void add_gradients(const ModelConfig& config, const WeightMap& weights, const std::vector<std::int64_t>& ids,
                   const Mask& mask, const Matrix& dhidden, WeightMap& gradients, const Dropout& dropout) {
  std::vector<Matrix> x{drop_embedded(weights, ids, dropout)};  // before layer 0, 1, …, and after the last
  for (const Matrix& after : forward(config, weights, ids, mask, dropout).layers) x.push_back(after);
  require(dhidden.rows == x.back().rows && dhidden.columns == x.back().columns, "dhidden is [tokens, hidden_dim]");
  Matrix dx = layer_norm_gradient(weights, "layer_norm", x.back(), dhidden, gradients);
  for (std::int64_t i = config.num_layers - 1; i >= 0; --i) {
    dx = layer_gradient(config, weights, layer_prefix(i), x[static_cast<std::size_t>(i)], mask, drop_in(i, dropout), dx,
                        gradients);
  }
  add_embed_gradient(ids, drop_in(0, dropout)(DropoutPlace::embedding, dx), gradients.at("embedding.weight"));
}

}  // namespace bsbr::reference
