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

}  // namespace bsbr::reference
