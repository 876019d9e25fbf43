// The obviously right code: plain loops in double, one function for each formula of docs/mathematics.md. Slow on
// purpose, and free of Kokkos and MPI, so that nothing it shares with the kernels could hide a mistake of theirs.
// Arguments that do not fit each other, and nothing else, throw std::invalid_argument.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bsbr/config.hpp"

namespace bsbr::reference {

/// A matrix of doubles, rows × columns, row by row.
struct Matrix {
  std::int64_t rows = 0, columns = 0;
  std::vector<double> values;
  Matrix() = default;
  Matrix(std::int64_t row_count, std::int64_t column_count)
      : rows(row_count), columns(column_count), values(static_cast<std::size_t>(row_count * column_count), 0.0) {}
  double& operator()(std::int64_t row, std::int64_t column) {
    return values[static_cast<std::size_t>(row * columns + column)];
  }
  double operator()(std::int64_t row, std::int64_t column) const {
    return values[static_cast<std::size_t>(row * columns + column)];
  }
};

/// Weights by their state_dict name; vectors are 1 × n.
using WeightMap = std::map<std::string, Matrix>;

/// Which tokens of one sequence are real: empty = all.
using Mask = std::vector<std::uint8_t>;

/// What an attention is given, for one sequence: query, key, value and, for gau, gate (before the sigmoid), [tokens,
/// attention_dim] each; for bsbr meta_r_proj and meta_h_proj at the last real token of each chunk, [chunks, hidden_dim]
/// (the row of a chunk without a real token is not used), and with compression the two projections, [S, d²], [1, S],
/// [d², S], [1, d²].
struct AttentionInput {
  Matrix query, key, value, gate, retrieval_query, retrieval_key;
  Matrix compress_weight, compress_bias, decompress_weight, decompress_bias;
};

/// Embedding plus position: x[t, :] = E[ids[t], :] + P[t, :], [tokens, hidden_dim].
Matrix embed(const std::vector<std::int64_t>& ids, const Matrix& embedding);

Matrix layer_norm(const Matrix& x, const Matrix& weight, const Matrix& bias);

/// x Wᵀ + b
Matrix linear(const Matrix& x, const Matrix& weight, const Matrix& bias);

double gelu(double z);

/// The heads' results [tokens, attention_dim], before out_proj, of any of the architectures.
Matrix attention(const ModelConfig& config, const AttentionInput& input, const Mask& mask);

/// The residual stream after each layer, and the hidden states after the final norm: [tokens, hidden_dim] each.
struct Result {
  std::vector<Matrix> layers;
  Matrix hidden_states;
};

/// The whole model for one sequence.
Result forward(const ModelConfig& config, const WeightMap& weights, const std::vector<std::int64_t>& ids,
               const Mask& mask);

}  // namespace bsbr::reference
