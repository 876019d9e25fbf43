// The gated attention unit's one head, in plain loops.
#include <cmath>

#include "reference/head.hpp"

namespace bsbr::reference {
namespace {

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

}  // namespace

/// o_t = σ(g_t) ⊙ (Σ_s softmax_s(q_t·k_s / √e over s ≤ t of the same chunk) v_s + q_t Σ_{j < c(t)} K_jᵀ V_j); out_proj
/// comes after
Matrix attend(Tag<Architecture::gau>, const ModelConfig& config, const AttentionInput& input, const Head& head,
              const Mask& mask) {
  const Matrix &query = head.query, &key = head.key, &value = head.value;
  Matrix out(query.rows, query.columns), state(key.columns, key.columns);
  for (std::int64_t i = 0; i < count_chunks(out.rows, config.chunk_size); ++i) {
    const Range chunk = chunk_tokens(i, config.chunk_size, out.rows);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) {
      attend_to(out, query, key, value, t, {chunk.begin, t + 1}, mask, score_scale(query));
      add_product(out, query, state, t);
      for (std::int64_t column = 0; column < out.columns; ++column) out(t, column) *= sigmoid(input.gate(t, column));
    }
    const Matrix own = state_of(key, value, chunk, mask);
    for (std::size_t n = 0; n < own.values.size(); ++n) state.values[n] += own.values[n];
  }
  return out;
}

/// With u_t = within + between and S_i = Σ_{j < i} K_jᵀ V_j: du = σ(g) ⊙ do, dg = do ⊙ u ⊙ σ(g) ⊙ (1 − σ(g)); within:
/// the softmax's gradient; between: dq_t += du_t S_iᵀ, and a chunk's state is in the S_i of all later chunks, so its
/// gradient is Σ q_tᵀ du_t over their tokens.
Head attend_gradient(Tag<Architecture::gau>, const ModelConfig& config, const AttentionInput& input, const Head& head,
                     const Mask& mask, const Matrix& dout, AttentionInput& dinput) {
  const Matrix &query = head.query, &key = head.key, &value = head.value;
  Head dhead = zeros_like(head);
  Matrix ungated(query.rows, query.columns), dungated(query.rows, query.columns), state(key.columns, key.columns);
  const std::int64_t chunks = count_chunks(query.rows, config.chunk_size);
  for (std::int64_t i = 0; i < chunks; ++i) {
    const Range chunk = chunk_tokens(i, config.chunk_size, query.rows);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) {
      attend_to(ungated, query, key, value, t, {chunk.begin, t + 1}, mask, score_scale(query));
      add_product(ungated, query, state, t);
      for (std::int64_t column = 0; column < query.columns; ++column) {
        const double gate = sigmoid(input.gate(t, column));
        dungated(t, column) = gate * dout(t, column);
        dinput.gate(t, column) += dout(t, column) * ungated(t, column) * gate * (1 - gate);
      }
      add_attend_to_gradient(dhead.query, dhead.key, dhead.value, query, key, value, dungated, t, {chunk.begin, t + 1},
                             mask, score_scale(query));
      add_transposed_product(dhead.query, dungated, state, t);
    }
    const Matrix own = state_of(key, value, chunk, mask);
    for (std::size_t n = 0; n < own.values.size(); ++n) state.values[n] += own.values[n];
  }
  Matrix dstate(key.columns, key.columns);  // of the chunk's own state: Σ q_tᵀ du_t over the tokens of later chunks
  for (std::int64_t i = chunks - 1; i >= 0; --i) {
    const Range chunk = chunk_tokens(i, config.chunk_size, query.rows);
    add_state_gradient(dhead.key, dhead.value, key, value, chunk, mask, dstate);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) add_outer(dstate, query, dungated, t);
  }
  return dhead;
}

}  // namespace bsbr::reference
