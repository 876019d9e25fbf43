// Chunks, masks, sums over tokens: see parts.hpp.
#include "reference/parts.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "architectures/traits.hpp"

namespace bsbr::reference {
namespace {

/// The weights of token t's softmax over the tokens that it sees.
std::vector<double> attention_weights(const Matrix& query, const Matrix& key, std::int64_t token,
                                      const std::vector<std::int64_t>& seen, double scale, std::int64_t absent) {
  std::vector<double> scores;
  for (const std::int64_t s : seen) scores.push_back(scale * dot(query, token, key, s));
  return softmax(scores, absent);
}

/// √(mean(u_t²) + 1e-5)
double root_mean_square(const Matrix& u, std::int64_t token) {
  long double mean = 0;  // which has room for the squares of all doubles
  for (std::int64_t column = 0; column < u.columns; ++column)
    mean += squared(u(token, column)) / static_cast<double>(u.columns);
  return static_cast<double>(std::sqrt(mean + 1e-5));
}

}  // namespace

void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

std::int64_t count_chunks(std::int64_t tokens, std::int64_t chunk_size) {
  return (tokens + chunk_size - 1) / chunk_size;
}

Range chunk_tokens(std::int64_t chunk, std::int64_t chunk_size, std::int64_t tokens) {
  return {chunk * chunk_size, std::min((chunk + 1) * chunk_size, tokens)};
}

bool is_real(const Mask& mask, std::int64_t token) {
  return mask.empty() || mask[static_cast<std::size_t>(token)] != 0;
}

std::vector<std::int64_t> real_tokens(Range range, const Mask& mask) {
  std::vector<std::int64_t> real;
  for (std::int64_t s = range.begin; s < range.end; ++s) {
    if (is_real(mask, s)) real.push_back(s);
  }
  return real;
}

std::int64_t last_real_token(Range range, const Mask& mask) {
  for (std::int64_t s = range.end - 1; s >= range.begin; --s) {
    if (is_real(mask, s)) return s;
  }
  return -1;
}

Mask effective_mask(const ModelConfig& config, const Mask& mask) {
  return traits(config.architecture).heeds_padding(config) ? mask : Mask{};
}

double dot(const Matrix& a, std::int64_t i, const Matrix& b, std::int64_t j) {
  double sum = 0;
  for (std::int64_t column = 0; column < a.columns; ++column) sum += a(i, column) * b(j, column);
  return sum;
}

void add_row(Matrix& out, std::int64_t row, double factor, const Matrix& a, std::int64_t a_row) {
  for (std::int64_t column = 0; column < a.columns; ++column) out(row, column) += factor * a(a_row, column);
}

long double squared(double z) { return static_cast<long double>(z) * static_cast<long double>(z); }

void add_outer(Matrix& state, const Matrix& key, const Matrix& value, std::int64_t token) {
  for (std::int64_t row = 0; row < key.columns; ++row) {
    for (std::int64_t column = 0; column < value.columns; ++column)
      state(row, column) += key(token, row) * value(token, column);
  }
}

void add_product(Matrix& out, const Matrix& query, const Matrix& state, std::int64_t token) {
  for (std::int64_t row = 0; row < state.rows; ++row) {
    for (std::int64_t column = 0; column < state.columns; ++column)
      out(token, column) += query(token, row) * state(row, column);
  }
}

void add_transposed_product(Matrix& out, const Matrix& a, const Matrix& state, std::int64_t token) {
  for (std::int64_t row = 0; row < state.rows; ++row) out(token, row) += dot(a, token, state, row);
}

double score_scale(const Matrix& query) { return 1 / std::sqrt(static_cast<double>(query.columns)); }

Matrix state_of(const Matrix& key, const Matrix& value, Range range, const Mask& mask) {
  Matrix state(key.columns, value.columns);
  for (std::int64_t s = range.begin; s < range.end; ++s) {
    if (is_real(mask, s)) add_outer(state, key, value, s);
  }
  return state;
}

void add_state_gradient(Matrix& dkey, Matrix& dvalue, const Matrix& key, const Matrix& value, Range range,
                        const Mask& mask, const Matrix& dstate) {
  for (std::int64_t s = range.begin; s < range.end; ++s) {
    if (!is_real(mask, s)) continue;
    add_transposed_product(dkey, value, dstate, s);
    add_product(dvalue, key, dstate, s);
  }
}

double share_of_token(Range range, const Mask& mask) {
  const std::size_t count = real_tokens(range, mask).size();
  return count == 0 ? 0 : 1 / static_cast<double>(count);
}

Matrix rms_norm(const Matrix& u) {
  Matrix y = u;
  for (std::int64_t t = 0; t < u.rows; ++t) {
    const double size = root_mean_square(u, t);
    for (std::int64_t column = 0; column < u.columns; ++column) y(t, column) /= size;
  }
  return y;
}

Matrix rms_norm_gradient(const Matrix& u, const Matrix& dy) {
  const Matrix y = rms_norm(u);
  Matrix du = zeros_like(u);
  for (std::int64_t t = 0; t < u.rows; ++t) {
    const double size = root_mean_square(u, t), mean = dot(dy, t, y, t) / static_cast<double>(u.columns);
    for (std::int64_t column = 0; column < u.columns; ++column)
      du(t, column) = (dy(t, column) - y(t, column) * mean) / size;
  }
  return du;
}

std::vector<double> softmax(const std::vector<double>& scores, std::int64_t absent) {
  if (scores.empty()) return {};
  double largest = *std::max_element(scores.begin(), scores.end());
  if (absent > 0) largest = std::max(largest, 0.0);
  double sum =
      absent > 0 ? static_cast<double>(absent) * std::exp(-largest) : 0;  // without the test 0·∞, for scores below −709
  std::vector<double> weights;
  for (const double score : scores) {
    weights.push_back(std::exp(score - largest));
    sum += weights.back();
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

std::vector<double> softmax_gradient(const std::vector<double>& weights, const std::vector<double>& dweights) {
  double rho = 0;
  for (std::size_t s = 0; s < weights.size(); ++s) rho += weights[s] * dweights[s];
  std::vector<double> dscores;
  for (std::size_t s = 0; s < weights.size(); ++s) dscores.push_back(weights[s] * (dweights[s] - rho));
  return dscores;
}

void attend_to(Matrix& out, const Matrix& query, const Matrix& key, const Matrix& value, std::int64_t token,
               Range range, const Mask& mask, double scale, std::int64_t absent) {
  const auto seen = real_tokens(range, mask);
  const auto weights = attention_weights(query, key, token, seen, scale, absent);
  for (std::size_t i = 0; i < seen.size(); ++i) add_row(out, token, weights[i], value, seen[i]);
}

void add_attend_to_gradient(Matrix& dquery, Matrix& dkey, Matrix& dvalue, const Matrix& query, const Matrix& key,
                            const Matrix& value, const Matrix& dout, std::int64_t token, Range range, const Mask& mask,
                            double scale, std::int64_t absent) {
  const auto seen = real_tokens(range, mask);
  const auto weights = attention_weights(query, key, token, seen, scale, absent);
  std::vector<double> dweights;
  for (const std::int64_t s : seen) dweights.push_back(dot(dout, token, value, s));
  const auto dscores = softmax_gradient(weights, dweights);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    add_row(dvalue, seen[i], weights[i], dout, token);
    add_row(dquery, token, scale * dscores[i], key, seen[i]);
    add_row(dkey, seen[i], scale * dscores[i], query, token);
  }
}

}  // namespace bsbr::reference
