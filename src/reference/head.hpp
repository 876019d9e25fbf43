// One head of an attention, and its gradient: src/architectures/<name>/reference.cpp has each architecture's.
#pragma once

#include <limits>

#include "architectures/traits.hpp"
#include "reference/parts.hpp"

namespace bsbr::reference {

/// The input of one head, or the gradients of that.
struct Head {
  std::int64_t index = 0;
  Matrix query, key, value;               // [L, d]
  Matrix retrieval_query, retrieval_key;  // r and h, [C, d], where there are projections of chunks
};

/// Results of a head, [L, d]; `input` is that of all heads, `mask` the one that counts.
#define BSBR_DECLARE_HEAD(name)                                                                                    \
  Matrix attend(Tag<Architecture::name>, const ModelConfig& config, const AttentionInput& input, const Head& head, \
                const Mask& mask);
BSBR_ARCHITECTURES(BSBR_DECLARE_HEAD)
#undef BSBR_DECLARE_HEAD

/// The gradients of a head's input, given `dout` of its results, [L, d]. Adds those of the rest of the input, gate,
/// projections of states, and null logit and factor of the head, to `dinput`.
#define BSBR_DECLARE_HEAD_GRADIENT(name)                                                                \
  Head attend_gradient(Tag<Architecture::name>, const ModelConfig& config, const AttentionInput& input, \
                       const Head& head, const Mask& mask, const Matrix& dout, AttentionInput& dinput);
BSBR_ARCHITECTURES(BSBR_DECLARE_HEAD_GRADIENT)
#undef BSBR_DECLARE_HEAD_GRADIENT

/// Zeros of the shapes of a head.
Head zeros_like(const Head& head);

inline constexpr std::int64_t all_earlier = std::numeric_limits<std::int64_t>::max();

/// o_t = Σ_s softmax_s(scale · q_t·k_s) v_s over t − w ≤ s ≤ t
Matrix attend_to_earlier(const Head& head, double scale, std::int64_t window, const Mask& mask);

/// The gradient of attend_to_earlier.
Head attend_to_earlier_gradient(const Head& head, double scale, std::int64_t window, const Mask& mask,
                                const Matrix& dout);

}  // namespace bsbr::reference
