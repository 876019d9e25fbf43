// One head of an attention: src/architectures/<name>/reference.cpp has each architecture's.
#pragma once

#include <limits>

#include "architectures/traits.hpp"
#include "reference/parts.hpp"

namespace bsbr::reference {

/// The input of one head.
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

inline constexpr std::int64_t all_earlier = std::numeric_limits<std::int64_t>::max();

/// o_t = Σ_s softmax_s(scale · q_t·k_s) v_s over t − w ≤ s ≤ t
Matrix attend_to_earlier(const Head& head, double scale, std::int64_t window, const Mask& mask);

}  // namespace bsbr::reference
