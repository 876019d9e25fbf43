// Standard attention: softmax over all tokens so far.
#pragma once

#include "attention/softmax_attention.hpp"

namespace bsbr::attention {

/// o_t = Σ_{s ≤ t} softmax_s(q_t·k_s / √d) v_s
struct Standard {
  static SoftmaxParameters parameters(const ModelConfig&) { return {}; }
};

}  // namespace bsbr::attention
