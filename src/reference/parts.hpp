// What the files of the reference share: chunks, masks, sums over tokens. L is the number of tokens, d the width of a
// head, C the number of chunks; query, key, value and results of a head are [L, d].
#pragma once

#include "config/causality.hpp"
#include "reference/reference.hpp"

namespace bsbr::reference {

/// Throws std::invalid_argument(message) unless `holds`.
void require(bool holds, const std::string& message);

/// The weight of that name. Throws std::invalid_argument if there is none.
const Matrix& find(const WeightMap& weights, const std::string& name);

// ---- Chunks and masks -----------------------------------------------------------------------------------------------

/// ceil(L / B)
std::int64_t count_chunks(std::int64_t tokens, std::int64_t chunk_size);

/// The tokens of chunk i; fewer than chunk_size in a ragged last chunk.
Range chunk_tokens(std::int64_t chunk, std::int64_t chunk_size, std::int64_t tokens);

bool is_real(const Mask& mask, std::int64_t token);

/// The real tokens of the range.
std::vector<std::int64_t> real_tokens(Range range, const Mask& mask);

/// The last real token of the range, or −1.
std::int64_t last_real_token(Range range, const Mask& mask);

/// The padding mask that counts: some ignore it.
Mask effective_mask(const ModelConfig& config, const Mask& mask);

// ---- Sums over tokens -----------------------------------------------------------------------------------------------

/// a_i·b_j
double dot(const Matrix& a, std::int64_t i, const Matrix& b, std::int64_t j);

/// out_row += factor · a_(a_row)
void add_row(Matrix& out, std::int64_t row, double factor, const Matrix& a, std::int64_t a_row);

/// z², which long double has room for whatever double z is.
long double squared(double z);

/// state += k_sᵀ v_s, state is [d, d]
void add_outer(Matrix& state, const Matrix& key, const Matrix& value, std::int64_t token);

/// out_t += q_t·state
void add_product(Matrix& out, const Matrix& query, const Matrix& state, std::int64_t token);

/// out_t += a_t·stateᵀ
void add_transposed_product(Matrix& out, const Matrix& a, const Matrix& state, std::int64_t token);

/// 1/√d
double score_scale(const Matrix& query);

/// Σ_s k_sᵀ v_s over the real tokens of a range, [d, d]
Matrix state_of(const Matrix& key, const Matrix& value, Range range, const Mask& mask);

/// state = Σ_s k_sᵀ v_s over the real tokens of a range: dk_s += v_s dstateᵀ, dv_s += k_s dstate.
void add_state_gradient(Matrix& dkey, Matrix& dvalue, const Matrix& key, const Matrix& value, Range range,
                        const Mask& mask, const Matrix& dstate);

/// 1/n for n real tokens of a range, by which their sum becomes their mean; 0 if it has none.
double share_of_token(Range range, const Mask& mask);

/// u_t / √(mean(u_t²) + 1e-5) of each row
Matrix rms_norm(const Matrix& u);

/// y = rms_norm(u): du_t = (dy_t − y_t mean(dy_t ⊙ y_t)) / √(mean(u_t²) + 1e-5)
Matrix rms_norm_gradient(const Matrix& u, const Matrix& dy);

/// The softmax of scores, among which there are `absent` more scores of 0 whose weights nobody needs.
std::vector<double> softmax(const std::vector<double>& scores, std::int64_t absent = 0);

/// w = softmax(z): dz_s = w_s (dw_s − ρ), ρ = Σ_s w_s dw_s; where there is one score w = 1, and dz is exactly 0.
/// `absent` scores change w only: nothing depends on their weights, whose gradients are 0.
std::vector<double> softmax_gradient(const std::vector<double>& weights, const std::vector<double>& dweights);

/// out_t += Σ_s softmax_s(scale · q_t·k_s) v_s over the real tokens s of a range; nothing if it has none. `absent` more
/// keys and values that are zero take part: they add scores of 0 to the softmax, and nothing to the sum.
void attend_to(Matrix& out, const Matrix& query, const Matrix& key, const Matrix& value, std::int64_t token,
               Range range, const Mask& mask, double scale, std::int64_t absent = 0);

/// The gradient of attend_to, with w_s the weights of the softmax:
/// dv_s += w_s dout_t, dw_s = dout_t·v_s, dz = softmax_gradient(w, dw), dq_t += scale Σ_s dz_s k_s,
/// dk_s += scale dz_s q_t.
void add_attend_to_gradient(Matrix& dquery, Matrix& dkey, Matrix& dvalue, const Matrix& query, const Matrix& key,
                            const Matrix& value, const Matrix& dout, std::int64_t token, Range range, const Mask& mask,
                            double scale, std::int64_t absent = 0);

}  // namespace bsbr::reference
