// Chunks, masks, sums over tokens: see parts.hpp.
#include "reference/parts.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "architectures/traits.hpp"

namespace bsbr::reference {

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

double score_scale(const Matrix& query) { return 1 / std::sqrt(static_cast<double>(query.columns)); }

Matrix state_of(const Matrix& key, const Matrix& value, Range range, const Mask& mask) {
  Matrix state(key.columns, value.columns);
  for (std::int64_t s = range.begin; s < range.end; ++s) {
    if (is_real(mask, s)) add_outer(state, key, value, s);
  }
  return state;
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

void attend_to(Matrix& out, const Matrix& query, const Matrix& key, const Matrix& value, std::int64_t token,
               Range range, const Mask& mask, double scale, std::int64_t absent) {
  std::vector<std::int64_t> seen;
  std::vector<double> scores;
  for (std::int64_t s = range.begin; s < range.end; ++s) {
    if (!is_real(mask, s)) continue;
    seen.push_back(s);
    scores.push_back(scale * dot(query, token, key, s));
  }
  const auto weights = softmax(scores, absent);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    for (std::int64_t column = 0; column < value.columns; ++column)
      out(token, column) += weights[i] * value(seen[i], column);
  }
}

}  // namespace bsbr::reference
