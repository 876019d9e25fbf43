// Predicting tokens: the head, the loss, and the gradients of all weights.
#include <algorithm>
#include <cmath>

#include "reference/parts.hpp"

namespace bsbr::reference {
namespace {

constexpr std::int64_t not_counted = -1;

void check(const Batch& batch, std::int64_t vocab_size) {
  const auto holds_rows = [&](const auto& values) {
    return batch.length > 0 && static_cast<std::int64_t>(values.size()) % batch.length == 0;
  };
  require(batch.ids.empty() || holds_rows(batch.ids), "ids are rows of `length` tokens");
  require(batch.targets.size() == batch.ids.size(), "each id has a target");
  require(batch.mask.empty() || batch.mask.size() == batch.ids.size(), "the mask is as long as the ids, or empty");
  require(batch.dropout.empty() || static_cast<std::int64_t>(batch.dropout.size()) == batch.rows(),
          "there is a dropout for each sequence, or for none");
  for (const std::int64_t target : batch.targets) {
    require(target >= not_counted && target < vocab_size,
            "target " + std::to_string(target) + " is neither in the vocabulary nor -1");
  }
}

/// Row n of values [N, L]; of none none.
template <class Value>
std::vector<Value> row_of(const std::vector<Value>& values, std::int64_t n, std::int64_t length) {
  if (values.empty()) return {};
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(n * length);
  return {begin, begin + static_cast<std::ptrdiff_t>(length)};
}

Dropout dropout_of(const Batch& batch, std::int64_t n) {
  return batch.dropout.empty() ? Dropout() : batch.dropout[static_cast<std::size_t>(n)];
}

/// The head's weight W, [vocab, D]: the embedding, or the head's own.
std::string head_weight(const ModelConfig& config) {
  require(config.head != bsbr::Head::none, "a model without a head predicts nothing");
  return config.head == bsbr::Head::tied ? "embedding.weight" : "lm_head.weight";
}

/// y_t Wᵀ
std::vector<double> logits(const Matrix& hidden_states, const Matrix& weight, std::int64_t token) {
  std::vector<double> result;
  for (std::int64_t id = 0; id < weight.rows; ++id) result.push_back(dot(hidden_states, token, weight, id));
  return result;
}

/// −log softmax(z)[target] = log Σ_v e^(z_v − m) + m − z_target, m the largest z
double cross_entropy(const std::vector<double>& scores, std::int64_t target) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - largest);
  return std::log(sum) + largest - scores[static_cast<std::size_t>(target)];
}

/// Adds those of the head's weight and returns that of y, of the loss of one sequence: dz_t = (softmax(z_t) − [v =
/// target]) / counted, dy_t = dz_t W, dW_v += dz_tv y_t.
Matrix head_gradient(const Matrix& hidden_states, const Matrix& weight, const std::vector<std::int64_t>& targets,
                     std::int64_t counted, Matrix& dweight) {
  Matrix dhidden = zeros_like(hidden_states);
  for (std::int64_t t = 0; t < hidden_states.rows; ++t) {
    const std::int64_t target = targets[static_cast<std::size_t>(t)];
    if (target == not_counted) continue;
    auto dlogits = softmax(logits(hidden_states, weight, t));
    dlogits[static_cast<std::size_t>(target)] -= 1;
    for (std::int64_t id = 0; id < weight.rows; ++id) {
      const double dlogit = dlogits[static_cast<std::size_t>(id)] / static_cast<double>(counted);
      add_row(dhidden, t, dlogit, weight, id);
      add_row(dweight, id, dlogit, hidden_states, t);
    }
  }
  return dhidden;
}

}  // namespace

std::vector<std::int64_t> next_tokens(const std::vector<std::int64_t>& ids, const Mask& mask, std::int64_t length) {
  std::vector<std::int64_t> targets(ids.size(), not_counted);
  for (std::int64_t token = 0; token < static_cast<std::int64_t>(ids.size()); ++token) {
    const bool is_last = (token + 1) % length == 0;
    if (!is_last && is_real(mask, token) && is_real(mask, token + 1)) {
      targets[static_cast<std::size_t>(token)] = ids[static_cast<std::size_t>(token + 1)];
    }
  }
  return targets;
}

Loss loss(const ModelConfig& config, const WeightMap& weights, const Batch& batch, Rounding rounding) {
  check(batch, config.vocab_size);
  const Matrix weight = factor(find(weights, head_weight(config)), rounding);
  Loss result{0, 0, Matrix(batch.rows(), batch.length)};
  for (std::int64_t n = 0; n < batch.rows(); ++n) {
    const auto targets = row_of(batch.targets, n, batch.length);
    const Matrix hidden_states = factor(forward(config, weights, row_of(batch.ids, n, batch.length),
                                                row_of(batch.mask, n, batch.length), dropout_of(batch, n), rounding)
                                            .hidden_states,
                                        rounding);
    for (std::int64_t t = 0; t < batch.length; ++t) {
      const std::int64_t target = targets[static_cast<std::size_t>(t)];
      if (target == not_counted) continue;
      result.token_loss(n, t) = cross_entropy(logits(hidden_states, weight, t), target);
      result.mean += result.token_loss(n, t);
      ++result.counted;
    }
  }
  if (result.counted > 0) result.mean /= static_cast<double>(result.counted);
  return result;
}

LossAndGradients loss_and_gradients(const ModelConfig& config, const WeightMap& weights, const Batch& batch) {
  LossAndGradients result{loss(config, weights, batch), {}};
  for (const auto& [name, weight] : weights) result.gradients[name] = zeros_like(weight);
  const Matrix& weight = find(weights, head_weight(config));
  Matrix& dweight = result.gradients.at(head_weight(config));
  for (std::int64_t n = 0; n < batch.rows(); ++n) {
    const auto ids = row_of(batch.ids, n, batch.length), targets = row_of(batch.targets, n, batch.length);
    const Mask mask = row_of(batch.mask, n, batch.length);
    const Dropout dropout = dropout_of(batch, n);
    const Matrix dhidden = head_gradient(forward(config, weights, ids, mask, dropout).hidden_states, weight, targets,
                                         result.loss.counted, dweight);
    add_gradients(config, weights, ids, mask, dhidden, result.gradients, dropout);
  }
  return result;
}

}  // namespace bsbr::reference
