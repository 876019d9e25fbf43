// The gradients of linear, delta_net and of states between steps token by token in any precision, in plain loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace bsbr::testing {

/// What is carried along: o_t = q_t S_t (of steps: of the tokens before the step of t).
struct NaiveScan {
  enum class Kind { sums, normalised_sums, delta_rule } kind = Kind::sums;
  double beta = 1;        // of the delta rule
  double decay = 1;       // of sums: S_t = γ S_{t−1} + k_tᵀ v_t
  std::int64_t step = 0;  // of sums; 0: a token sees its own step
};

/// Rows [tokens][width] of one head of one sequence.
template <class Real>
using NaiveRows = std::vector<std::vector<Real>>;

template <class Real>
struct NaiveHead {
  NaiveRows<Real> query, key, value;
  std::vector<std::uint8_t> real;  // of each token
};

/// Results and, for a loss whose derivatives with respect to the results are `output_gradient`, gradients of one head.
template <class Real>
class NaiveStateGradient {
 public:
  NaiveStateGradient(const NaiveScan& scan, NaiveHead<Real> head, const NaiveRows<Real>& output_gradient)
      : m_scan(scan), m_head(std::move(head)), m_from_output(output_gradient) {
    m_width = m_head.query[0].size();
    m_tokens = m_head.query.size();
    output = query = key = value = NaiveRows<Real>(m_tokens, Row(m_width, 0));
    for (std::size_t t = 0; t < m_tokens; ++t) {
      m_query.push_back(mapped(m_head.query[t]));
      m_key.push_back(mapped(m_head.key[t]));
      m_value.push_back(m_head.value[t]);
      if (normalises()) m_value.back().push_back(1);
    }
    m_scan.kind == NaiveScan::Kind::delta_rule ? run_delta_rule() : run_sums();
    for (std::size_t t = 0; t < m_tokens; ++t) {
      query[t] = unmapped(m_head.query[t], query[t]);
      if (is_real(t)) key[t] = unmapped(m_head.key[t], key[t]);
    }
  }

  NaiveRows<Real> output, query, key, value;

 private:
  using Row = std::vector<Real>;

  /// [key width][value width]
  struct State {
    std::vector<Row> rows;
    State(std::size_t key_width, std::size_t value_width) : rows(key_width, Row(value_width, 0)) {}

    void add(const Row& key, const Row& value, Real factor = 1) {
      for (std::size_t k = 0; k < rows.size(); ++k) {
        for (std::size_t i = 0; i < value.size(); ++i) rows[k][i] += factor * key[k] * value[i];
      }
    }
    void add(const State& other) {
      for (std::size_t k = 0; k < rows.size(); ++k) {
        for (std::size_t i = 0; i < rows[k].size(); ++i) rows[k][i] += other.rows[k][i];
      }
    }
    void scale(Real factor) {
      for (Row& row : rows) {
        for (Real& element : row) element *= factor;
      }
    }
    /// key S
    Row read(const Row& key) const {
      Row result(rows[0].size(), 0);
      for (std::size_t k = 0; k < rows.size(); ++k) {
        for (std::size_t i = 0; i < result.size(); ++i) result[i] += key[k] * rows[k][i];
      }
      return result;
    }
    /// value Sᵀ
    Row read_transposed(const Row& value) const {
      Row result(rows.size(), 0);
      for (std::size_t k = 0; k < rows.size(); ++k) {
        for (std::size_t i = 0; i < value.size(); ++i) result[k] += value[i] * rows[k][i];
      }
      return result;
    }
  };

  bool normalises() const { return m_scan.kind == NaiveScan::Kind::normalised_sums; }
  bool is_real(std::size_t t) const { return m_head.real[t] != 0; }

  static Real dot(const Row& a, const Row& b) {
    Real sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  /// elu + 1, or length 1
  Row mapped(Row z) const {
    const Real norm = std::max(std::sqrt(dot(z, z)), static_cast<Real>(1e-12));
    for (Real& x : z) {
      if (normalises()) x = x > 0 ? x + 1 : std::exp(x);
      if (m_scan.kind == NaiveScan::Kind::delta_rule) x /= norm;
    }
    return z;
  }

  /// The gradient of z, of that of mapped(z).
  Row unmapped(const Row& z, Row gradient) const {
    if (normalises()) {
      for (std::size_t i = 0; i < z.size(); ++i) gradient[i] *= z[i] > 0 ? Real(1) : std::exp(z[i]);
    }
    if (m_scan.kind != NaiveScan::Kind::delta_rule) return gradient;
    const Real norm = std::sqrt(dot(z, z)), least = static_cast<Real>(1e-12);
    const Row unit = mapped(z);
    const Real along = norm < least ? Real(0) : dot(unit, gradient);
    for (std::size_t i = 0; i < z.size(); ++i) gradient[i] = (gradient[i] - unit[i] * along) / std::max(norm, least);
    return gradient;
  }

  void run_sums() {
    const std::size_t columns = m_value[0].size();
    const auto decay = static_cast<Real>(m_scan.decay);
    const auto begins_step = [&](std::size_t t) {
      return m_scan.step > 0 && static_cast<std::int64_t>(t) % m_scan.step == 0;
    };
    NaiveRows<Real> from_sums(m_tokens);  // the gradients of q_t S
    State state(m_width, columns), of_step(m_width, columns);
    for (std::size_t t = 0; t < m_tokens; ++t) {
      if (begins_step(t)) {
        state.add(of_step);
        of_step.scale(0);
      }
      state.scale(decay);
      if (is_real(t)) (m_scan.step > 0 ? of_step : state).add(m_key[t], m_value[t]);
      const Row sums = state.read(m_query[t]);
      const Real normaliser = normalises() ? sums[m_width] : Real(1);
      const Real factor = normaliser == 0 ? Real(0) : 1 / normaliser;
      for (std::size_t i = 0; i < m_width; ++i) {
        output[t][i] = sums[i] * factor;
        from_sums[t].push_back(m_from_output[t][i] * factor);
      }
      if (normalises()) from_sums[t].push_back(-dot(m_from_output[t], output[t]) * factor);
      query[t] = state.read_transposed(from_sums[t]);
    }
    State gradient(m_width, columns);  // of the state behind token t
    of_step.scale(0);
    for (std::size_t t = m_tokens; t-- > 0;) {
      (m_scan.step > 0 ? of_step : gradient).add(m_query[t], from_sums[t]);
      if (is_real(t)) {
        key[t] = gradient.read_transposed(m_value[t]);
        const Row of_value = gradient.read(m_key[t]);
        std::copy_n(of_value.begin(), m_width, value[t].begin());
      }
      gradient.scale(decay);
      if (begins_step(t)) {
        gradient.add(of_step);
        of_step.scale(0);
      }
    }
  }

  void run_delta_rule() {
    const auto beta = static_cast<Real>(m_scan.beta);
    NaiveRows<Real> corrections(m_tokens, Row(m_width, 0));
    State state(m_width, m_width);
    for (std::size_t t = 0; t < m_tokens; ++t) {
      if (is_real(t)) {
        const Row predicted = state.read(m_key[t]);
        for (std::size_t i = 0; i < m_width; ++i) corrections[t][i] = beta * (m_value[t][i] - predicted[i]);
        state.add(m_key[t], corrections[t]);
      }
      output[t] = state.read(m_query[t]);
      query[t] = state.read_transposed(m_from_output[t]);
    }
    State gradient(m_width, m_width);
    for (std::size_t t = m_tokens; t-- > 0;) {
      gradient.add(m_query[t], m_from_output[t]);
      if (!is_real(t)) continue;
      value[t] = gradient.read(m_key[t]);
      for (Real& element : value[t]) element *= beta;
      key[t] = gradient.read_transposed(corrections[t]);
      gradient.add(m_key[t], value[t], -1);
    }
    State before(m_width, m_width);
    for (std::size_t t = 0; t < m_tokens; ++t) {
      if (!is_real(t)) continue;
      const Row of_prediction = before.read_transposed(value[t]);
      for (std::size_t i = 0; i < m_width; ++i) key[t][i] -= of_prediction[i];
      before.add(m_key[t], corrections[t]);
    }
  }

  NaiveScan m_scan;
  NaiveHead<Real> m_head;
  NaiveRows<Real> m_from_output;
  NaiveRows<Real> m_query, m_key, m_value;  // mapped; values with the normaliser's 1
  std::size_t m_width = 0, m_tokens = 0;
};

}  // namespace bsbr::testing
