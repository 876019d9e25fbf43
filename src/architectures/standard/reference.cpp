// Standard attention of one head, in plain loops.
#include "reference/head.hpp"

namespace bsbr::reference {

/// o_t = Σ_{s ≤ t} softmax_s(q_t·k_s / √d) v_s
Matrix attend(Tag<Architecture::standard>, const ModelConfig&, const AttentionInput&, const Head& head,
              const Mask& mask) {
  return attend_to_earlier(head, score_scale(head.query), all_earlier, mask);
}

Head attend_gradient(Tag<Architecture::standard>, const ModelConfig&, const AttentionInput&, const Head& head,
                     const Mask& mask, const Matrix& dout, AttentionInput&) {
  return attend_to_earlier_gradient(head, score_scale(head.query), all_earlier, mask, dout);
}

}  // namespace bsbr::reference
