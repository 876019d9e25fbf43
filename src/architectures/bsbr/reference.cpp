// BSBR: softmax within the chunk, plus retrieval of other chunks' states. Chunks i and j; causality decides who sees
// whom.
#include "config/causality.hpp"
#include "reference/head.hpp"

namespace bsbr::reference {
namespace {

/// local_t = Σ_s softmax_s(q_t·k_s / √d over s allowed by M_in) v_s. In `reference` the tokens that a ragged last chunk
/// lacks are zero keys and values.
Matrix local(const ModelConfig& config, const Head& head, const Mask& mask) {
  Matrix out(head.query.rows, head.query.columns);
  for (std::int64_t t = 0; t < out.rows; ++t) {
    const Range chunk = chunk_tokens(t / config.chunk_size, config.chunk_size, out.rows);
    const std::int64_t absent = absent_tokens(config.causality, config.chunk_size, chunk);
    attend_to(out, head.query, head.key, head.value, t, tokens_seen(config.causality, t, chunk), mask,
              score_scale(head.query), absent);
  }
  return out;
}

/// Row j: F_j = Σ_{s in chunk j} k_sᵀ v_s flattened row by row, then compress_proj if any, [C, S].
Matrix chunk_states(const ModelConfig& config, const AttentionInput& input, const Head& head, const Mask& mask) {
  const std::int64_t chunks = head.retrieval_key.rows, width = head.key.columns;
  Matrix states(chunks, width * width);
  for (std::int64_t j = 0; j < chunks; ++j) {
    const Matrix state = state_of(head.key, head.value, chunk_tokens(j, config.chunk_size, head.key.rows), mask);
    for (std::int64_t n = 0; n < states.columns; ++n) states(j, n) = state.values[static_cast<std::size_t>(n)];
  }
  return config.compression_factor == 0 ? states : linear(states, input.compress_weight, input.compress_bias);
}

/// Which chunks have a real token.
std::vector<bool> find_real_chunks(const ModelConfig& config, const Head& head, const Mask& mask) {
  std::vector<bool> real;
  for (std::int64_t j = 0; j < head.retrieval_key.rows; ++j) {
    real.push_back(last_real_token(chunk_tokens(j, config.chunk_size, head.key.rows), mask) >= 0);
  }
  return real;
}

/// The chunk at whose last real token r_i is taken; −1: none.
std::int64_t retrieval_source(Causality causality, std::int64_t i, const std::vector<bool>& real_chunks) {
  std::int64_t source = latest_retrieval_source(causality, i);
  while (source >= 0 && !real_chunks[static_cast<std::size_t>(source)]) --source;
  return source;
}

/// G_i = Σ_j w_ij F_j, w_ij = softmax_j(r_i·h_j / √d over j allowed by M_out), then decompress_proj if any: [1, d²].
/// Empty where there is nothing to retrieve.
Matrix retrieve(const ModelConfig& config, const AttentionInput& input, const Head& head, const Matrix& states,
                const std::vector<bool>& real_chunks, std::int64_t i) {
  const std::int64_t source = retrieval_source(config.causality, i, real_chunks);
  if (source < 0) return {};
  std::vector<std::int64_t> seen;
  std::vector<double> scores;
  const Range chunks = chunks_seen(config.causality, i, states.rows);
  for (std::int64_t j = chunks.begin; j < chunks.end; ++j) {
    if (!real_chunks[static_cast<std::size_t>(j)]) continue;
    seen.push_back(j);
    scores.push_back(score_scale(head.query) * dot(head.retrieval_query, source, head.retrieval_key, j));
  }
  if (seen.empty()) return {};
  const auto weights = softmax(scores);
  Matrix mixed(1, states.columns);
  for (std::size_t n = 0; n < seen.size(); ++n) {
    for (std::int64_t column = 0; column < mixed.columns; ++column)
      mixed(0, column) += weights[n] * states(seen[n], column);
  }
  return config.compression_factor == 0 ? mixed : linear(mixed, input.decompress_weight, input.decompress_bias);
}

}  // namespace

/// o_t = local_t + q_t G_{c(t)}
Matrix attend(Tag<Architecture::bsbr>, const ModelConfig& config, const AttentionInput& input, const Head& head,
              const Mask& mask) {
  Matrix out = local(config, head, mask);
  const Matrix states = chunk_states(config, input, head, mask);
  const auto real_chunks = find_real_chunks(config, head, mask);
  for (std::int64_t i = 0; i < states.rows; ++i) {
    Matrix retrieved = retrieve(config, input, head, states, real_chunks, i);
    if (retrieved.values.empty()) continue;
    retrieved.rows = retrieved.columns = head.query.columns;  // the flattened d² elements are a d × d matrix again
    const Range chunk = chunk_tokens(i, config.chunk_size, out.rows);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) add_product(out, head.query, retrieved, t);
  }
  return out;
}

}  // namespace bsbr::reference
