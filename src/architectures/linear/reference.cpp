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

}  // namespace

/// S_t = S_{t−1} + k_tᵀ v_t, o_t = q_t S_t; with elu o_t = φ(q_t) S_t / (φ(q_t)·Σ_{s≤t} φ(k_s)), S_t of φ(k) too, and 0
/// before the first real token.
Matrix attend(Tag<Architecture::linear>, const ModelConfig& config, const AttentionInput&, const Head& head,
              const Mask& mask) {
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

}  // namespace bsbr::reference
