// DeltaNet of one head, in plain loops.
#include <algorithm>
#include <cmath>

#include "reference/head.hpp"

namespace bsbr::reference {
namespace {

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

/// S += β k_tᵀ (v_t − k_t S)
void delta_step(Matrix& state, const Matrix& key, const Matrix& value, double beta, std::int64_t token) {
  Matrix error(1, value.columns);  // v_t − k_t S
  for (std::int64_t column = 0; column < error.columns; ++column) {
    error(0, column) = value(token, column);
    for (std::int64_t row = 0; row < state.rows; ++row) error(0, column) -= key(token, row) * state(row, column);
  }
  for (std::int64_t row = 0; row < state.rows; ++row) {
    for (std::int64_t column = 0; column < state.columns; ++column)
      state(row, column) += beta * key(token, row) * error(0, column);
  }
}

}  // namespace

/// S_t = S_{t−1} + β k_tᵀ (v_t − k_t S_{t−1}), o_t = q_t S_t, with q and k of length 1
Matrix attend(Tag<Architecture::delta_net>, const ModelConfig& config, const AttentionInput&, const Head& head,
              const Mask& mask) {
  const Matrix query = normalise(head.query), key = normalise(head.key);
  Matrix out(query.rows, query.columns), state(key.columns, key.columns);
  for (std::int64_t t = 0; t < out.rows; ++t) {
    if (is_real(mask, t)) delta_step(state, key, head.value, config.beta, t);
    add_product(out, query, state, t);
  }
  return out;
}

}  // namespace bsbr::reference
