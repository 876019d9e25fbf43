// The formulas of linear, delta_net and gau token by token in any precision: how much they lose in float by themselves.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/tuning.hpp"
#include "support/compare.hpp"
#include "support/device_arrays.hpp"

namespace bsbr::testing {

/// How far an attention in float may be from the exact result, whose largest number is `scale`, where plain loops in
/// float are `naive_loss` away from it: twice as far. delta_net solves for a tile of tokens at a time, by sums of as
/// many numbers as plain loops never add up: there the rounding of one such sum is allowed besides.
inline double float_bound(const ModelConfig& config, double naive_loss, double scale) {
  const double sum = kernels::tuning::state_tile * std::numeric_limits<float>::epsilon() * scale;
  return 2 * naive_loss + 1e-5 + (config.architecture == Architecture::delta_net ? sum : 0);
}

/// One head of one sequence.
template <class Real>
class NaiveState {
 public:
  NaiveState(const ModelConfig& config, const reference::AttentionInput& input, const reference::Mask& mask,
             std::int64_t head)
      : m_config(config), m_input(input), m_mask(mask), m_width(config.head_dim()), m_first(head * m_width) {}

  /// Writes this head's columns of the output, [tokens, attention_dim].
  void run(std::vector<Real>& output) {
    m_state.assign(static_cast<std::size_t>(m_width * m_width), 0);
    m_key_sum.assign(static_cast<std::size_t>(m_width), 0);
    for (std::int64_t t = 0; t < m_input.query.rows; ++t) {
      const Row result = result_of(t);
      for (std::int64_t i = 0; i < m_width; ++i) {
        output[static_cast<std::size_t>(t * m_input.query.columns + m_first + i)] = result[static_cast<std::size_t>(i)];
      }
    }
  }

 private:
  using Row = std::vector<Real>;

  bool is_real(std::int64_t t) const { return m_mask.empty() || m_mask[static_cast<std::size_t>(t)] != 0; }

  Row row(const reference::Matrix& matrix, std::int64_t t) const {
    Row numbers;
    for (std::int64_t i = 0; i < m_width; ++i) numbers.push_back(static_cast<Real>(matrix(t, m_first + i)));
    return numbers;
  }

  static Real dot(const Row& a, const Row& b) {
    Real sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  Row normalised(Row z) const {
    const Real norm = std::max(std::sqrt(dot(z, z)), static_cast<Real>(1e-12));
    for (Real& value : z) value /= norm;
    return z;
  }

  Row mapped(Row z) const {
    for (Real& value : z)
      value = m_config.feature_map == FeatureMap::none ? value : value > 0 ? value + 1 : std::exp(value);
    return z;
  }

  /// a S
  Row times_state(const Row& a) const {
    Row product(a.size(), 0);
    for (std::size_t k = 0; k < a.size(); ++k) {
      for (std::size_t i = 0; i < a.size(); ++i) product[i] += a[k] * m_state[k * a.size() + i];
    }
    return product;
  }

  /// S += kᵀ u
  void add(const Row& key, const Row& u) {
    for (std::size_t k = 0; k < key.size(); ++k) {
      for (std::size_t i = 0; i < u.size(); ++i) m_state[k * u.size() + i] += key[k] * u[i];
    }
  }

  Row result_of(std::int64_t t) {
    switch (m_config.architecture) {
      case Architecture::gau:
        return gated(t);
      case Architecture::linear:
        return linear(t);
      case Architecture::delta_net:
        return delta(t);
      default:
        throw std::logic_error("no naive loops for " + std::string(to_string(m_config.architecture)));
    }
  }

  Row linear(std::int64_t t) {
    if (is_real(t)) {
      const Row key = mapped(row(m_input.key, t));
      add(key, row(m_input.value, t));
      for (std::size_t i = 0; i < key.size(); ++i) m_key_sum[i] += key[i];
    }
    const Row query = mapped(row(m_input.query, t));
    Row result = times_state(query);
    const Real normaliser = m_config.feature_map == FeatureMap::none ? Real(1) : dot(query, m_key_sum);
    for (Real& value : result) value = normaliser == 0 ? Real(0) : value / normaliser;
    return result;
  }

  Row delta(std::int64_t t) {
    if (is_real(t)) {
      const Row key = normalised(row(m_input.key, t)), predicted = times_state(key);
      Row u = row(m_input.value, t);
      for (std::size_t i = 0; i < u.size(); ++i) u[i] = static_cast<Real>(m_config.beta) * (u[i] - predicted[i]);
      add(key, u);
    }
    return times_state(normalised(row(m_input.query, t)));
  }

  Row gated(std::int64_t t) {
    const std::int64_t begin = t / m_config.chunk_size * m_config.chunk_size;
    for (std::int64_t s = begin - m_config.chunk_size; t == begin && s >= 0 && s < begin; ++s) {
      if (is_real(s)) add(row(m_input.key, s), row(m_input.value, s));
    }
    const Row query = row(m_input.query, t), gate = row(m_input.gate, t);
    Row scores;
    for (std::int64_t s = begin; s <= t; ++s) {
      scores.push_back(is_real(s) ? dot(query, row(m_input.key, s)) / std::sqrt(static_cast<Real>(m_width))
                                  : -std::numeric_limits<Real>::infinity());
    }
    const Real most = *std::max_element(scores.begin(), scores.end());
    Row within(query.size(), 0);
    Real total = 0;
    for (std::int64_t s = begin; s <= t; ++s) {
      if (!is_real(s)) continue;
      const Real weight = std::exp(scores[static_cast<std::size_t>(s - begin)] - most);
      const Row value = row(m_input.value, s);
      total += weight;
      for (std::size_t i = 0; i < value.size(); ++i) within[i] += weight * value[i];
    }
    Row result = times_state(query);
    for (std::size_t i = 0; i < result.size(); ++i) {
      result[i] = (result[i] + (total > 0 ? within[i] / total : Real(0))) / (1 + std::exp(-gate[i]));
    }
    return result;
  }

  const ModelConfig& m_config;
  const reference::AttentionInput& m_input;
  const reference::Mask& m_mask;
  std::int64_t m_width, m_first;
  Row m_state, m_key_sum;  // [width, width], [width]
};

/// The heads' results [tokens, attention_dim] of one sequence; of linear, delta_net or gau.
template <class Real>
std::vector<Real> naive_states(const ModelConfig& config, const reference::AttentionInput& input,
                               const reference::Mask& mask) {
  std::vector<Real> output(input.query.values.size());
  for (std::int64_t head = 0; head < config.num_heads; ++head) NaiveState<Real>(config, input, mask, head).run(output);
  return output;
}

}  // namespace bsbr::testing
