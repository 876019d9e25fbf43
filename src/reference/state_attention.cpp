// linear, delta_net and gau: attentions that carry a state S [d, d] from token to token or from chunk to chunk.
#include <algorithm>
#include <cmath>

#include "reference/parts.hpp"

namespace bsbr::reference {
namespace {

/// φ(z) = elu(z) + 1
Matrix elu_plus_one(Matrix z) {
  for (double& value : z.values) value = value > 0 ? value + 1 : std::exp(value);
  return z;
}

/// z / max(‖z‖, 1e-12), row by row
Matrix normalise(Matrix z) {
  for (std::int64_t t = 0; t < z.rows; ++t) {
    long double square = 0;
    for (std::int64_t column = 0; column < z.columns; ++column) square += squared(z(t, column));
    const double norm = std::max(static_cast<double>(std::sqrt(square)), 1e-12);
    for (std::int64_t column = 0; column < z.columns; ++column) z(t, column) /= norm;
  }
  return z;
}

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

/// S += β k_tᵀ (v_t − k_t S)
void delta_step(Matrix& state, const Matrix& key, const Matrix& value, double beta, std::int64_t token) {
  Matrix error(1, value.columns);  // v_t − k_t S
  for (std::int64_t column = 0; column < error.columns; ++column) {
    error(0, column) = value(token, column);
    for (std::int64_t row = 0; row < state.rows; ++row) error(0, column) -= key(token, row) * state(row, column);
  }
  for (std::int64_t row = 0; row < state.rows; ++row) {
    for (std::int64_t column = 0; column < state.columns; ++column) state(row, column) += beta * key(token, row) * error(0, column);
  }
}

}  // namespace

/// S_t = S_{t−1} + k_tᵀ v_t, o_t = q_t S_t; with elu o_t = φ(q_t) S_t / (φ(q_t)·Σ_{s≤t} φ(k_s)), S_t of φ(k) too, and 0 before the first
/// real token.
Matrix linear_head(const Head& head, FeatureMap feature_map, const Mask& mask) {
  const bool elu = feature_map == FeatureMap::elu;
  const Matrix query = elu ? elu_plus_one(head.query) : head.query, key = elu ? elu_plus_one(head.key) : head.key;
  Matrix out(query.rows, query.columns), state(key.columns, key.columns), key_sum(1, key.columns);
  bool begun = false;
  for (std::int64_t t = 0; t < out.rows; ++t) {
    if (is_real(mask, t)) {
      begun = true;
      add_outer(state, key, head.value, t);
      for (std::int64_t column = 0; column < key.columns; ++column) key_sum(0, column) += key(t, column);
    }
    if (!begun) continue;
    add_product(out, query, state, t);
    const double normaliser = elu ? dot(query, t, key_sum, 0) : 1;
    for (std::int64_t column = 0; column < out.columns; ++column) out(t, column) /= normaliser;
  }
  return out;
}

/// S_t = S_{t−1} + β k_tᵀ (v_t − k_t S_{t−1}), o_t = q_t S_t, with q and k of length 1
Matrix delta_net_head(const Head& head, double beta, const Mask& mask) {
  const Matrix query = normalise(head.query), key = normalise(head.key);
  Matrix out(query.rows, query.columns), state(key.columns, key.columns);
  for (std::int64_t t = 0; t < out.rows; ++t) {
    if (is_real(mask, t)) delta_step(state, key, head.value, beta, t);
    add_product(out, query, state, t);
  }
  return out;
}

/// o_t = σ(g_t) ⊙ (Σ_s softmax_s(q_t·k_s / √e over s ≤ t of the same chunk) v_s + q_t Σ_{j < c(t)} K_jᵀ V_j); out_proj comes after
Matrix gau_head(const Head& head, const Matrix& gate, std::int64_t chunk_size, const Mask& mask) {
  const auto& [query, key, value, r, h] = head;
  Matrix out(query.rows, query.columns), state(key.columns, key.columns);
  for (std::int64_t i = 0; i < count_chunks(out.rows, chunk_size); ++i) {
    const Range chunk = chunk_tokens(i, chunk_size, out.rows);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) {
      attend(out, query, key, value, t, {chunk.begin, t + 1}, mask, score_scale(query));
      add_product(out, query, state, t);
      for (std::int64_t column = 0; column < out.columns; ++column) out(t, column) *= sigmoid(gate(t, column));
    }
    const Matrix own = state_of(key, value, chunk, mask);
    for (std::size_t n = 0; n < own.values.size(); ++n) state.values[n] += own.values[n];
  }
  return out;
}

}  // namespace bsbr::reference
