// The targets of losses, for OutputLayer and gradients.
#pragma once

#include <cstdint>

#include "bsbr/sequence.hpp"

namespace bsbr {

/// How many tokens of this rank have a target. Throws ShapeError unless targets are [batch, local tokens], each an id
/// or no_target.
std::int64_t count_targets(const Execution& execution, const Sequence& sequence,
                           const Array<const std::int32_t**>& targets, std::int64_t vocab_size);

}  // namespace bsbr
