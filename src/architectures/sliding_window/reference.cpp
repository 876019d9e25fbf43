// Sliding window attention of one head, in plain loops.
#include "reference/head.hpp"

namespace bsbr::reference {

/// o_t = Σ_{t−w ≤ s ≤ t} softmax_s(q_t·k_s / √d) v_s
Matrix attend(Tag<Architecture::sliding_window>, const ModelConfig& config, const AttentionInput&, const Head& head,
              const Mask& mask) {
  return attend_to_earlier(head, score_scale(head.query), config.window_size, mask);
}

Head attend_gradient(Tag<Architecture::sliding_window>, const ModelConfig& config, const AttentionInput&,
                     const Head& head, const Mask& mask, const Matrix& dout, AttentionInput&) {
  return attend_to_earlier_gradient(head, score_scale(head.query), config.window_size, mask, dout);
}

}  // namespace bsbr::reference
