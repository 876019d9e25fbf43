// Sliding window attention: softmax over the last tokens.
#pragma once

#include "attention/softmax_attention.hpp"

namespace bsbr::attention {

/// o_t = Σ_{t−w ≤ s ≤ t} softmax_s(q_t·k_s / √d) v_s
struct SlidingWindow {
  static SoftmaxParameters parameters(const ModelConfig& config) { return {.window = config.window_size}; }
};

}  // namespace bsbr::attention
