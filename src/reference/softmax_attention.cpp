// standard, hopfield and sliding_window: one softmax over a range of earlier tokens.
#include <algorithm>

#include "reference/parts.hpp"

namespace bsbr::reference {

/// o_t = Σ_s softmax_s(q_t·k_s / (τ√d)) v_s over s ≤ t
Matrix standard_head(const Head& head, double temperature, const Mask& mask) {
  const auto& [query, key, value, r, h] = head;
  const double scale = score_scale(query) / temperature;
  Matrix out(query.rows, query.columns);
  for (std::int64_t t = 0; t < out.rows; ++t) attend(out, query, key, value, t, {0, t + 1}, mask, scale);
  return out;
}

/// o_t = Σ_s softmax_s(q_t·k_s / √d) v_s over t − w ≤ s ≤ t
Matrix sliding_window_head(const Head& head, std::int64_t window_size, const Mask& mask) {
  const auto& [query, key, value, r, h] = head;
  Matrix out(query.rows, query.columns);
  for (std::int64_t t = 0; t < out.rows; ++t) {
    attend(out, query, key, value, t, {std::max<std::int64_t>(0, t - window_size), t + 1}, mask, score_scale(query));
  }
  return out;
}

}  // namespace bsbr::reference
