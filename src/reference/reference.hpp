// The obviously right code: plain loops in double, one function for each formula of docs/mathematics.md, and one for
// its gradient. Slow on purpose, and free of Kokkos and MPI, so that nothing it shares with the kernels could hide a
// mistake of theirs. dx is the gradient of some number with respect to x, and has the shape of x. Arguments that do not
// fit each other, and nothing else, throw std::invalid_argument.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bsbr/config.hpp"
#include "bsbr/rounding.hpp"

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

/// Zeros of the same shape.
Matrix zeros_like(const Matrix& matrix);

/// Weights, or their gradients, by their state_dict name; vectors are 1 × n.
using WeightMap = std::map<std::string, Matrix>;

/// Which tokens of one sequence are real: empty = all.
using Mask = std::vector<std::uint8_t>;

/// What an attention is given, for one sequence: query, key, value and, for gau, gate (before the sigmoid), [tokens,
/// attention_dim] each; for bsbr meta_r_proj and meta_h_proj at the last real token of each chunk, [chunks, hidden_dim]
/// (the row of a chunk without a real token is not used), with compression the two projections, [S, d²], [1, S], [d²,
/// S], [1, d²], and with null_chunk and retrieval_gate these, [1, heads].
struct AttentionInput {
  Matrix query, key, value, gate, retrieval_query, retrieval_key;
  Matrix compress_weight, compress_bias, decompress_weight, decompress_bias;
  Matrix null_logit, retrieval_gate;
  Rounding rounding = Rounding::none;  // of the factors of the two projections
};

/// Zeros of the same shapes.
AttentionInput zeros_like(const AttentionInput& input);

/// Embedding plus position: x[t, :] = E[ids[t], :] + P[t, :], [tokens, hidden_dim].
Matrix embed(const std::vector<std::int64_t>& ids, const Matrix& embedding);

/// dE[ids[t], :] += dx_t
void add_embed_gradient(const std::vector<std::int64_t>& ids, const Matrix& dx, Matrix& dembedding);

/// y_t = n_t ⊙ w + b, n_t = (x_t − mean)/√(variance + 1e-5)
Matrix layer_norm(const Matrix& x, const Matrix& weight, const Matrix& bias);

/// dw += Σ_t dy_t ⊙ n_t, db += Σ_t dy_t; returns dx_t = (dn_t − mean(dn_t) − n_t mean(dn_t ⊙ n_t))/√(variance + 1e-5)
/// with dn_t = dy_t ⊙ w.
Matrix layer_norm_gradient(const Matrix& x, const Matrix& weight, const Matrix& dy, Matrix& dweight, Matrix& dbias);

/// x as the factor of a product: each element rounded to bfloat16, to nearest, ties to even; or x itself.
Matrix factor(Matrix x, Rounding rounding);

/// x Wᵀ + b
Matrix linear(const Matrix& x, const Matrix& weight, const Matrix& bias);

/// dW += Σ_t dy_tᵀ x_t, db += Σ_t dy_t; returns dx = dy W.
Matrix linear_gradient(const Matrix& x, const Matrix& weight, const Matrix& dy, Matrix& dweight, Matrix& dbias);

/// z Φ(z), Φ(z) = (1 + erf(z/√2))/2
double gelu(double z);

/// Φ(z) + z e^(−z²/2)/√(2π)
double gelu_gradient(double z);

/// The heads' results [tokens, attention_dim], before out_proj, of any of the architectures.
Matrix attention(const ModelConfig& config, const AttentionInput& input, const Mask& mask);

/// The gradients of everything that an attention is given, for dout, that of the heads' results, [tokens,
/// attention_dim]. What nobody attends to gets 0: keys and values of padding, r and h of chunks that retrieve nothing
/// or are retrieved by none. Where several chunks take r from one row, it gets their sum.
AttentionInput attention_gradient(const ModelConfig& config, const AttentionInput& input, const Mask& mask,
                                  const Matrix& dout);

/// Where dropout drops numbers in training: of the sum of embedding and positions (its layer is 0), of what out_proj
/// gives, and of what ff.3 gives.
enum class DropoutPlace { embedding, attention, feed_forward };

/// What the number in a column of a token's row is multiplied with at a place of a layer of one sequence: 0 where it is
/// dropped, else 1/(1 − p). Empty: no dropout.
using Dropout = std::function<double(DropoutPlace place, std::int64_t layer, std::int64_t token, std::int64_t column)>;

/// The residual stream after each layer, and the hidden states after the final norm: [tokens, hidden_dim] each.
struct Result {
  std::vector<Matrix> layers;
  Matrix hidden_states;
};

/// The whole model for one sequence. With rounding the factors of all products with weights are rounded, and queries,
/// keys and values.
Result forward(const ModelConfig& config, const WeightMap& weights, const std::vector<std::int64_t>& ids,
               const Mask& mask, const Dropout& dropout = {}, Rounding rounding = Rounding::none);

/// Adds the gradients of all weights but the head's own, for dhidden, that of the hidden states of one sequence,
/// [tokens, hidden_dim]. `gradients` has a matrix for each weight.
void add_gradients(const ModelConfig& config, const WeightMap& weights, const std::vector<std::int64_t>& ids,
                   const Mask& mask, const Matrix& dhidden, WeightMap& gradients, const Dropout& dropout = {});

/// Sequences of equal length, [N, L], one after the other.
struct Batch {
  std::int64_t length = 0;
  std::vector<std::int64_t> ids;
  std::vector<std::int64_t> targets;  // what is to be predicted at each token: an id, or −1 where none counts
  Mask mask;                          // empty: all are real
  std::vector<Dropout> dropout{};     // of each sequence; empty: none
  std::int64_t rows() const { return ids.empty() ? 0 : static_cast<std::int64_t>(ids.size()) / length; }
};

/// Targets of sequences of `length` tokens, [N, L]: the next id; −1 at a sequence's last token, and where token t or t
/// + 1 is padding.
std::vector<std::int64_t> next_tokens(const std::vector<std::int64_t>& ids, const Mask& mask, std::int64_t length);

struct Loss {
  double mean = 0;           // over the tokens that count, in nats; 0 if none does
  std::int64_t counted = 0;  // how many do
  Matrix token_loss;         // −log softmax(logits)[target], [N, L]; 0 where none counts
};

/// The loss of a model with a head. rounding: as in forward(), of the head's product, too.
Loss loss(const ModelConfig& config, const WeightMap& weights, const Batch& batch, Rounding rounding = Rounding::none);

struct LossAndGradients {
  Loss loss;
  WeightMap gradients;  // of the mean, for each weight
};

/// The loss of a model with a head, and its gradients.
LossAndGradients loss_and_gradients(const ModelConfig& config, const WeightMap& weights, const Batch& batch);

}  // namespace bsbr::reference
