// What the files of the reference share: chunks, masks, and the attentions of one head. Inside a head, L is the number of tokens,
// d its width, C the number of chunks; query, key, value and results are [L, d].
#pragma once

#include "reference/reference.hpp"

namespace bsbr::reference {

/// Throws std::invalid_argument(message) unless `holds`.
void require(bool holds, const std::string& message);

// ---- Chunks and masks ------------------------------------------------------------------------------------------------

/// Tokens [begin, end) of a sequence.
struct Range {
  std::int64_t begin, end;
};

/// ceil(L / B)
std::int64_t count_chunks(std::int64_t tokens, std::int64_t chunk_size);

/// The tokens of chunk i; fewer than chunk_size in a ragged last chunk.
Range chunk_tokens(std::int64_t chunk, std::int64_t chunk_size, std::int64_t tokens);

bool is_real(const Mask& mask, std::int64_t token);

/// The last real token of the range, or −1.
std::int64_t last_real_token(Range range, const Mask& mask);

/// The padding mask that counts: BSBR's `reference` causality ignores it.
Mask effective_mask(const ModelConfig& config, const Mask& mask);

// ---- Sums over tokens ------------------------------------------------------------------------------------------------

/// a_i·b_j
double dot(const Matrix& a, std::int64_t i, const Matrix& b, std::int64_t j);

/// z², which long double has room for whatever double z is.
long double squared(double z);

/// state += k_sᵀ v_s, state is [d, d]
void add_outer(Matrix& state, const Matrix& key, const Matrix& value, std::int64_t token);

/// out_t += q_t·state
void add_product(Matrix& out, const Matrix& query, const Matrix& state, std::int64_t token);

/// 1/√d
double score_scale(const Matrix& query);

/// Σ_s k_sᵀ v_s over the real tokens of a range, [d, d]
Matrix state_of(const Matrix& key, const Matrix& value, Range range, const Mask& mask);

/// The softmax of scores, among which there are `absent` more scores of 0 whose weights nobody needs.
std::vector<double> softmax(const std::vector<double>& scores, std::int64_t absent = 0);

/// out_t += Σ_s softmax_s(scale · q_t·k_s) v_s over the real tokens s of a range; nothing if it has none. `absent` more keys and values
/// that are zero take part: they add scores of 0 to the softmax, and nothing to the sum.
void attend(Matrix& out, const Matrix& query, const Matrix& key, const Matrix& value, std::int64_t token, Range range, const Mask& mask,
            double scale, std::int64_t absent = 0);

// ---- One head of each architecture -----------------------------------------------------------------------------------

struct Head {
  Matrix query, key, value;
  Matrix retrieval_query, retrieval_key;  // bsbr: r and h, [C, d]
};

Matrix standard_head(const Head& head, double temperature, const Mask& mask);
Matrix sliding_window_head(const Head& head, std::int64_t window_size, const Mask& mask);
Matrix bsbr_head(const ModelConfig& config, const AttentionInput& input, const Head& head, const Mask& mask);
Matrix linear_head(const Head& head, FeatureMap feature_map, const Mask& mask);
Matrix delta_net_head(const Head& head, double beta, const Mask& mask);
Matrix gau_head(const Head& head, const Matrix& gate, std::int64_t chunk_size, const Mask& mask);

}  // namespace bsbr::reference
