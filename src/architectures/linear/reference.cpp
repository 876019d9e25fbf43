// Linear attention of one head, in plain loops.
#include <cmath>

#include "reference/head.hpp"

namespace bsbr::reference {
namespace {

/// φ(z) = elu(z) + 1
Matrix elu_plus_one(Matrix z) {
  for (double& value : z.values) value = value > 0 ? value + 1 : std::exp(value);
  return z;
}

/// dz_t = φ'(z_t) ⊙ dφ_t, φ'(z) = 1 or e^z; 0 for padding.
Matrix elu_plus_one_gradient(const Matrix& z, const Matrix& dphi, const Mask& mask) {
  Matrix dz = zeros_like(z);
  for (const std::int64_t t : real_tokens({0, z.rows}, mask)) {
    for (std::int64_t column = 0; column < z.columns; ++column) {
      dz(t, column) = dphi(t, column) * (z(t, column) > 0 ? 1 : std::exp(z(t, column)));
    }
  }
  return dz;
}

/// S_t = S_{t−1} + k_tᵀ v_t, u_t = q_t S_t; with elu u_t = φ(q_t) S_t / (φ(q_t)·Σ_{s≤t} φ(k_s)), S_t of φ(k) too, and 0
/// before the first real token.
Matrix retrieve(const ModelConfig& config, const Head& head, const Mask& mask) {
  const bool elu = config.feature_map == FeatureMap::elu;
  const Matrix query = elu ? elu_plus_one(head.query) : head.query, key = elu ? elu_plus_one(head.key) : head.key;
  Matrix out(query.rows, query.columns), state(key.columns, key.columns), key_sum(1, key.columns);
  bool begun = false;
  for (std::int64_t t = 0; t < out.rows; ++t) {
    if (is_real(mask, t)) {
      begun = true;
      add_outer(state, key, head.value, t);
      for (std::int64_t column = 0; column < key.columns; ++column) key_sum(0, column) += key(t, column);
    }
    if (!begun) continue;
    add_product(out, query, state, t);
    const double normaliser = elu ? dot(query, t, key_sum, 0) : 1;
    for (std::int64_t column = 0; column < out.columns; ++column) out(t, column) /= normaliser;
  }
  return out;
}

}  // namespace

/// o_t = u_t, or with output_norm u_t / √(mean(u_t²) + 1e-5)
Matrix attend(Tag<Architecture::linear>, const ModelConfig& config, const AttentionInput&, const Head& head,
              const Mask& mask) {
  const Matrix out = retrieve(config, head, mask);
  return norms_results(config) ? rms_norm(out) : out;
}

/// As sums over pairs of tokens s ≤ t: u_t = Σ_s a_ts v_s / n_t with a_ts = φ(q_t)·φ(k_s), n_t = Σ_s a_ts or 1. So
/// da_ts = du_t·v_s / n_t, with elu du_t·(v_s − u_t) / n_t; dv_s += a_ts/n_t du_t, dφ(q)_t += da_ts φ(k_s),
/// dφ(k)_s += da_ts φ(q_t).
Head attend_gradient(Tag<Architecture::linear>, const ModelConfig& config, const AttentionInput&, const Head& head,
                     const Mask& mask, const Matrix& dresult, AttentionInput&) {
  const bool elu = config.feature_map == FeatureMap::elu;
  const Matrix query = elu ? elu_plus_one(head.query) : head.query, key = elu ? elu_plus_one(head.key) : head.key;
  const Matrix out = retrieve(config, head, mask);
  const Matrix dout = norms_results(config) ? rms_norm_gradient(out, dresult) : dresult;
  Head dhead = zeros_like(head);
  for (std::int64_t t = 0; t < dout.rows; ++t) {
    const auto seen = real_tokens({0, t + 1}, mask);
    double normaliser = elu ? 0 : 1;
    for (const std::int64_t s : seen) normaliser += elu ? dot(query, t, key, s) : 0;
    for (const std::int64_t s : seen) {
      add_row(dhead.value, s, dot(query, t, key, s) / normaliser, dout, t);
      const double dproduct = (dot(dout, t, head.value, s) - (elu ? dot(dout, t, out, t) : 0)) / normaliser;
      add_row(dhead.query, t, dproduct, key, s);
      add_row(dhead.key, s, dproduct, query, t);
    }
  }
  if (elu) {
    dhead.query = elu_plus_one_gradient(head.query, dhead.query, {});
    dhead.key = elu_plus_one_gradient(head.key, dhead.key, mask);
  }
  return dhead;
}

}  // namespace bsbr::reference
