// BSBR: softmax within the chunk, plus retrieval of other chunks' states. Chunks i and j; causality decides who sees
// whom.
#include "config/causality.hpp"
#include "reference/head.hpp"

namespace bsbr::reference {
namespace {

/// Row j of flattened states as a d × d matrix again.
Matrix as_state(const Matrix& states, std::int64_t j, std::int64_t width) {
  Matrix state(width, width);
  for (std::int64_t n = 0; n < states.columns; ++n) state.values[static_cast<std::size_t>(n)] = states(j, n);
  return state;
}

/// [1, d²] of a d × d matrix, row by row.
Matrix flattened(Matrix state) {
  state.columns *= state.rows;
  state.rows = 1;
  return state;
}

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

void add_local_gradient(const ModelConfig& config, const Head& head, const Mask& mask, const Matrix& dout,
                        Head& dhead) {
  for (std::int64_t t = 0; t < dout.rows; ++t) {
    const Range chunk = chunk_tokens(t / config.chunk_size, config.chunk_size, dout.rows);
    const std::int64_t absent = absent_tokens(config.causality, config.chunk_size, chunk);
    add_attend_to_gradient(dhead.query, dhead.key, dhead.value, head.query, head.key, head.value, dout, t,
                           tokens_seen(config.causality, t, chunk), mask, score_scale(head.query), absent);
  }
}

/// By what chunk j's sum of k_sᵀ v_s is multiplied: 1, or with state_scale = mean one over its number of real tokens.
double state_scale(const ModelConfig& config, const Head& head, const Mask& mask, std::int64_t j) {
  if (config.state_scale == StateScale::sum) return 1;
  return share_of_token(chunk_tokens(j, config.chunk_size, head.key.rows), mask);
}

/// Row j: F_j = Σ_{s in chunk j} k_sᵀ v_s, or their mean, flattened row by row, [C, d²].
Matrix chunk_states(const ModelConfig& config, const Head& head, const Mask& mask) {
  const std::int64_t chunks = head.retrieval_key.rows, width = head.key.columns;
  Matrix states(chunks, width * width);
  for (std::int64_t j = 0; j < chunks; ++j) {
    const Matrix state = state_of(head.key, head.value, chunk_tokens(j, config.chunk_size, head.key.rows), mask);
    add_row(states, j, state_scale(config, head, mask, j), flattened(state), 0);
  }
  return states;
}

/// dk_s += v_s dF_jᵀ, dv_s += k_s dF_j for the tokens s of chunk j, with the scale of F_j
void add_chunk_states_gradient(const ModelConfig& config, const Head& head, const Mask& mask, const Matrix& dstates,
                               Head& dhead) {
  for (std::int64_t j = 0; j < dstates.rows; ++j) {
    Matrix dsum(1, dstates.columns);
    add_row(dsum, 0, state_scale(config, head, mask, j), dstates, j);
    add_state_gradient(dhead.key, dhead.value, head.key, head.value, chunk_tokens(j, config.chunk_size, head.key.rows),
                       mask, as_state(dsum, 0, head.key.columns));
  }
}

/// One of the projections of states.
Matrix project(const Matrix& x, const Matrix& weight, const Matrix& bias, Rounding rounding) {
  return linear(factor(x, rounding), factor(weight, rounding), bias);
}

/// compress_proj, if there is one: [C, S] of [C, d²].
Matrix compress(const ModelConfig& config, const AttentionInput& input, const Matrix& states) {
  return config.compression_factor == 0 ? states
                                        : project(states, input.compress_weight, input.compress_bias, input.rounding);
}

Matrix compress_gradient(const ModelConfig& config, const AttentionInput& input, const Matrix& states,
                         const Matrix& dcompressed, AttentionInput& dinput) {
  if (config.compression_factor == 0) return dcompressed;
  return linear_gradient(states, input.compress_weight, dcompressed, dinput.compress_weight, dinput.compress_bias);
}

/// decompress_proj, if there is one: [1, d²] of [1, S].
Matrix decompress(const ModelConfig& config, const AttentionInput& input, const Matrix& mixed) {
  return config.compression_factor == 0
             ? mixed
             : project(mixed, input.decompress_weight, input.decompress_bias, input.rounding);
}

Matrix decompress_gradient(const ModelConfig& config, const AttentionInput& input, const Matrix& mixed,
                           const Matrix& dretrieved, AttentionInput& dinput) {
  if (config.compression_factor == 0) return dretrieved;
  return linear_gradient(mixed, input.decompress_weight, dretrieved, dinput.decompress_weight, dinput.decompress_bias);
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

/// What a chunk retrieves.
struct Mixing {
  std::int64_t source = -1;        // r is that of this chunk
  std::vector<std::int64_t> seen;  // the chunks j; none: nothing is retrieved
  std::vector<double> weights;     // w_j, and behind them with null_chunk that of retrieving nothing
};

/// w_ij = softmax_j(r_i·h_j / √d over j allowed by M_out); with null_chunk there is one more score, the null logit.
Mixing mixing_of_chunk(const ModelConfig& config, const AttentionInput& input, const Head& head,
                       const std::vector<bool>& real_chunks, std::int64_t i) {
  Mixing mixing{retrieval_source(config.causality, i, real_chunks), {}, {}};
  if (mixing.source < 0) return mixing;
  std::vector<double> scores;
  const Range chunks = chunks_seen(config.causality, i, head.retrieval_key.rows);
  for (std::int64_t j = chunks.begin; j < chunks.end; ++j) {
    if (!real_chunks[static_cast<std::size_t>(j)]) continue;
    mixing.seen.push_back(j);
    scores.push_back(score_scale(head.query) * dot(head.retrieval_query, mixing.source, head.retrieval_key, j));
  }
  if (config.null_chunk > 0) scores.push_back(input.null_logit(0, head.index));
  mixing.weights = softmax(scores);
  return mixing;
}

/// Σ_j w_ij F_j of one chunk i, [1, S]
Matrix mix(const Mixing& mixing, const Matrix& states) {
  Matrix mixed(1, states.columns);
  for (std::size_t n = 0; n < mixing.seen.size(); ++n) add_row(mixed, 0, mixing.weights[n], states, mixing.seen[n]);
  return mixed;
}

/// dF_j += w_ij dM_i, dw_ij = dM_i·F_j, A = softmax_gradient(w, dw), dr_i += Σ_j A_ij h_j / √d, dh_j += A_ij r_i / √d;
/// dr_i goes to the chunk that r_i comes from. The null chunk's state is 0: dw = 0.
void add_mixing_gradient(const ModelConfig& config, const Mixing& mixing, const Head& head, const Matrix& states,
                         const Matrix& dmixed, Matrix& dstates, Head& dhead, AttentionInput& dinput) {
  std::vector<double> dweights;
  for (const std::int64_t j : mixing.seen) dweights.push_back(dot(dmixed, 0, states, j));
  if (config.null_chunk > 0) dweights.push_back(0);
  const auto dscores = softmax_gradient(mixing.weights, dweights);
  if (config.null_chunk > 0) dinput.null_logit(0, head.index) += dscores.back();
  for (std::size_t n = 0; n < mixing.seen.size(); ++n) {
    const std::int64_t j = mixing.seen[n];
    const double scaled = score_scale(head.query) * dscores[n];
    add_row(dstates, j, mixing.weights[n], dmixed, 0);
    add_row(dhead.retrieval_query, mixing.source, scaled, head.retrieval_key, j);
    add_row(dhead.retrieval_key, j, scaled, head.retrieval_query, mixing.source);
  }
}

/// Rows times g, by which what is retrieved is multiplied: 1 without retrieval_gate.
Matrix gated(const ModelConfig& config, const AttentionInput& input, const Head& head, Matrix rows) {
  const double gate = config.retrieval_gate > 0 ? input.retrieval_gate(0, head.index) : 1;
  for (double& value : rows.values) value *= gate;
  return rows;
}

}  // namespace

/// o_t = local_t + g q_t G_{c(t)}
Matrix attend(Tag<Architecture::bsbr>, const ModelConfig& config, const AttentionInput& input, const Head& head,
              const Mask& mask) {
  Matrix out = local(config, head, mask);
  const Matrix query = gated(config, input, head, head.query);
  const Matrix states = compress(config, input, chunk_states(config, head, mask));
  const auto real_chunks = find_real_chunks(config, head, mask);
  for (std::int64_t i = 0; i < states.rows; ++i) {
    const Mixing mixing = mixing_of_chunk(config, input, head, real_chunks, i);
    if (mixing.seen.empty()) continue;
    const Matrix retrieved = as_state(decompress(config, input, mix(mixing, states)), 0, head.query.columns);
    const Range chunk = chunk_tokens(i, config.chunk_size, out.rows);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) add_product(out, query, retrieved, t);
  }
  return out;
}

/// dg += Σ_t do_t·q_t G_i, dq_t += g do_t G_iᵀ and dG_i = Σ_t g q_tᵀ do_t over the tokens of chunk i; then back through
/// decompress_proj, the mixing, compress_proj and the states.
Head attend_gradient(Tag<Architecture::bsbr>, const ModelConfig& config, const AttentionInput& input, const Head& head,
                     const Mask& mask, const Matrix& dout, AttentionInput& dinput) {
  Head dhead = zeros_like(head);
  add_local_gradient(config, head, mask, dout, dhead);
  const Matrix dterm = gated(config, input, head, dout);  // g do
  Matrix term = zeros_like(dout);                         // q_t G
  const Matrix states = chunk_states(config, head, mask), compressed = compress(config, input, states);
  const auto real_chunks = find_real_chunks(config, head, mask);
  Matrix dcompressed = zeros_like(compressed);
  for (std::int64_t i = 0; i < states.rows; ++i) {
    const Mixing mixing = mixing_of_chunk(config, input, head, real_chunks, i);
    if (mixing.seen.empty()) continue;
    const Matrix mixed = mix(mixing, compressed),
                 retrieved = as_state(decompress(config, input, mixed), 0, head.query.columns);
    Matrix dretrieved = zeros_like(retrieved);  // dG_i
    const Range chunk = chunk_tokens(i, config.chunk_size, dout.rows);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) {
      add_product(term, head.query, retrieved, t);
      add_transposed_product(dhead.query, dterm, retrieved, t);
      add_outer(dretrieved, head.query, dterm, t);
    }
    const Matrix dmixed = decompress_gradient(config, input, mixed, flattened(dretrieved), dinput);
    add_mixing_gradient(config, mixing, head, compressed, dmixed, dcompressed, dhead, dinput);
  }
  for (std::int64_t t = 0; config.retrieval_gate > 0 && t < dout.rows; ++t)
    dinput.retrieval_gate(0, head.index) += dot(dout, t, term, t);
  const Matrix dstates = compress_gradient(config, input, states, dcompressed, dinput);
  add_chunk_states_gradient(config, head, mask, dstates, dhead);
  return dhead;
}

}  // namespace bsbr::reference
