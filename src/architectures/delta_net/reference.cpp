// DeltaNet of one head, in plain loops.
#include <algorithm>
#include <cmath>

#include "reference/head.hpp"

namespace bsbr::reference {
namespace {

constexpr double least_norm = 1e-12;

/// ‖z_t‖
double norm(const Matrix& z, std::int64_t token) {
  long double square = 0;
  for (std::int64_t column = 0; column < z.columns; ++column) square += squared(z(token, column));
  return static_cast<double>(std::sqrt(square));
}

/// z / max(‖z‖, 1e-12), row by row
Matrix normalise(Matrix z) {
  for (std::int64_t t = 0; t < z.rows; ++t) {
    const double divisor = std::max(norm(z, t), least_norm);
    for (std::int64_t column = 0; column < z.columns; ++column) z(t, column) /= divisor;
  }
  return z;
}

/// y = z/‖z‖: dz = (dy − (dy·y) y)/‖z‖; y = z/1e-12, where ‖z‖ is no more than that: dz = dy/1e-12. 0 for padding.
Matrix normalise_gradient(const Matrix& z, const Matrix& dy, const Mask& mask) {
  const Matrix y = normalise(z);
  Matrix dz = zeros_like(z);
  for (const std::int64_t t : real_tokens({0, z.rows}, mask)) {
    const double length = norm(z, t);
    add_row(dz, t, 1, dy, t);
    if (length > least_norm) add_row(dz, t, -dot(dy, t, y, t), y, t);
    for (std::int64_t column = 0; column < z.columns; ++column) dz(t, column) /= std::max(length, least_norm);
  }
  return dz;
}

/// v_t − k_t S, [1, d]
Matrix delta_error(const Matrix& state, const Matrix& key, const Matrix& value, std::int64_t token) {
  Matrix error(1, value.columns);
  for (std::int64_t column = 0; column < error.columns; ++column) {
    error(0, column) = value(token, column);
    for (std::int64_t row = 0; row < state.rows; ++row) error(0, column) -= key(token, row) * state(row, column);
  }
  return error;
}

/// S += β k_tᵀ (v_t − k_t S)
void delta_step(Matrix& state, const Matrix& key, const Matrix& value, double beta, std::int64_t token) {
  const Matrix error = delta_error(state, key, value, token);
  for (std::int64_t row = 0; row < state.rows; ++row) {
    for (std::int64_t column = 0; column < state.columns; ++column)
      state(row, column) += beta * key(token, row) * error(0, column);
  }
}

/// S_t = S + β k_tᵀ e, e = v_t − k_t S, given dS_t: de = β k_t dS_t, dk_t += β e dS_tᵀ − de Sᵀ, dv_t += de, and
/// dstate becomes dS = dS_t − k_tᵀ de.
void add_delta_step_gradient(Matrix& dstate, Matrix& dkey, Matrix& dvalue, const Matrix& state, const Matrix& key,
                             const Matrix& value, double beta, std::int64_t token) {
  const Matrix error = delta_error(state, key, value, token);
  Matrix derror(1, value.columns);
  for (std::int64_t row = 0; row < state.rows; ++row) add_row(derror, 0, beta * key(token, row), dstate, row);
  for (std::int64_t row = 0; row < state.rows; ++row) {
    dkey(token, row) += beta * dot(error, 0, dstate, row) - dot(derror, 0, state, row);
    add_row(dstate, row, -key(token, row), derror, 0);
  }
  add_row(dvalue, token, 1, derror, 0);
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

/// From the last token to the first, with dS of the state that later tokens read: dq_t = do_t S_tᵀ, dS += q_tᵀ do_t,
/// then the step's gradient; at last that of the lengths of q and k.
Head attend_gradient(Tag<Architecture::delta_net>, const ModelConfig& config, const AttentionInput&, const Head& head,
                     const Mask& mask, const Matrix& dout, AttentionInput&) {
  const Matrix query = normalise(head.query), key = normalise(head.key);
  std::vector<Matrix> states{Matrix(key.columns, key.columns)};  // before token 0, 1, …, and after the last
  for (std::int64_t t = 0; t < dout.rows; ++t) {
    states.push_back(states.back());
    if (is_real(mask, t)) delta_step(states.back(), key, head.value, config.beta, t);
  }
  Head dhead = zeros_like(head);
  Matrix dstate(key.columns, key.columns);
  for (std::int64_t t = dout.rows - 1; t >= 0; --t) {
    const auto place = static_cast<std::size_t>(t);
    add_transposed_product(dhead.query, dout, states[place + 1], t);
    add_outer(dstate, query, dout, t);
    if (!is_real(mask, t)) continue;
    add_delta_step_gradient(dstate, dhead.key, dhead.value, states[place], key, head.value, config.beta, t);
  }
  dhead.query = normalise_gradient(head.query, dhead.query, {});
  dhead.key = normalise_gradient(head.key, dhead.key, mask);
  return dhead;
}

}  // namespace bsbr::reference
