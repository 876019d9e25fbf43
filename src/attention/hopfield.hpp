// Hopfield attention: one retrieval step of a modern Hopfield network (Ramsauer et al. 2020), with values as a separate projection.
#pragma once

#include "attention/softmax_attention.hpp"

namespace bsbr::attention {

/// o_t = Σ_{s ≤ t} softmax_s(q_t·k_s / (τ√d)) v_s
struct Hopfield {
  static SoftmaxParameters parameters(const ModelConfig& config) { return {.temperature = config.temperature}; }
};

}  // namespace bsbr::attention
