// The gated attention unit's one head, in plain loops.
#include <cmath>

#include "reference/head.hpp"

namespace bsbr::reference {
namespace {

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

/// A chunk's K_iᵀ V_i, or the gradient of that: with state_scale = mean divided by the number of the chunk's real
/// tokens.
Matrix scaled(const ModelConfig& config, Range chunk, const Mask& mask, Matrix state) {
  const double scale = averages_states(config) ? share_of_token(chunk, mask) : 1;
  for (double& value : state.values) value *= scale;
  return state;
}

/// u_t = Σ_s softmax_s(q_t·k_s / √e over s ≤ t of the same chunk) v_s + q_t S_i, and S_i = Σ_{j < i} K_jᵀ V_j
struct Ungated {
  Matrix rows;                 // u, [L, e]
  std::vector<Matrix> states;  // S_i before each chunk, [e, e]
};

Ungated attend_within_and_between(const ModelConfig& config, const Head& head, const Mask& mask) {
  Ungated result{zeros_like(head.query), {}};
  Matrix state(head.key.columns, head.key.columns);
  for (std::int64_t i = 0; i < count_chunks(head.query.rows, config.chunk_size); ++i) {
    const Range chunk = chunk_tokens(i, config.chunk_size, head.query.rows);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) {
      attend_to(result.rows, head.query, head.key, head.value, t, {chunk.begin, t + 1}, mask, score_scale(head.query));
      add_product(result.rows, head.query, state, t);
    }
    result.states.push_back(state);
    const Matrix own = scaled(config, chunk, mask, state_of(head.key, head.value, chunk, mask));
    for (std::size_t n = 0; n < own.values.size(); ++n) state.values[n] += own.values[n];
  }
  return result;
}

}  // namespace

/// o_t = σ(g_t) ⊙ u_t, with output_norm σ(g_t) ⊙ u_t / √(mean(u_t²) + 1e-5); out_proj comes after
Matrix attend(Tag<Architecture::gau>, const ModelConfig& config, const AttentionInput& input, const Head& head,
              const Mask& mask) {
  Matrix out = attend_within_and_between(config, head, mask).rows;
  if (norms_results(config)) out = rms_norm(out);
  for (std::size_t n = 0; n < out.values.size(); ++n) out.values[n] *= sigmoid(input.gate.values[n]);
  return out;
}

/// With y = u or what the norm makes of it: dy = σ(g) ⊙ do, dg = do ⊙ y ⊙ σ(g) ⊙ (1 − σ(g)); within: the softmax's
/// gradient; between: dq_t += du_t S_iᵀ, and a chunk's state is in the S_i of all later chunks, so its gradient is
/// Σ q_tᵀ du_t over their tokens.
Head attend_gradient(Tag<Architecture::gau>, const ModelConfig& config, const AttentionInput& input, const Head& head,
                     const Mask& mask, const Matrix& dout, AttentionInput& dinput) {
  const Matrix &query = head.query, &key = head.key, &value = head.value;
  Head dhead = zeros_like(head);
  const Ungated ungated = attend_within_and_between(config, head, mask);
  const Matrix result = norms_results(config) ? rms_norm(ungated.rows) : ungated.rows;  // y
  Matrix dungated = zeros_like(query);
  for (std::size_t n = 0; n < dungated.values.size(); ++n) {
    const double gate = sigmoid(input.gate.values[n]);
    dungated.values[n] = gate * dout.values[n];
    dinput.gate.values[n] += dout.values[n] * result.values[n] * gate * (1 - gate);
  }
  if (norms_results(config)) dungated = rms_norm_gradient(ungated.rows, dungated);
  Matrix dstate(key.columns, key.columns);  // Σ q_tᵀ du_t over the tokens of later chunks
  for (std::int64_t i = count_chunks(query.rows, config.chunk_size) - 1; i >= 0; --i) {
    const Range chunk = chunk_tokens(i, config.chunk_size, query.rows);
    add_state_gradient(dhead.key, dhead.value, key, value, chunk, mask, scaled(config, chunk, mask, dstate));
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) {
      add_attend_to_gradient(dhead.query, dhead.key, dhead.value, query, key, value, dungated, t, {chunk.begin, t + 1},
                             mask, score_scale(query));
      add_transposed_product(dhead.query, dungated, ungated.states[static_cast<std::size_t>(i)], t);
      add_outer(dstate, query, dungated, t);
    }
  }
  return dhead;
}

}  // namespace bsbr::reference
