// The padding mask on its way between ranks: [token][batch], as rows of tokens travel.
#pragma once

#include "bsbr/mask.hpp"

namespace bsbr::attention {

/// rows, from `offset` on: this rank's tokens of the mask, which has padding.
void pack_mask(const Execution& execution, const PaddingMask& mask, const Array<std::uint8_t*>& rows,
               std::int64_t offset);

/// real [batch, token] = rows [token][batch] of `count` tokens, for more of which both may have room.
void unpack_mask(const Execution& execution, const Array<const std::uint8_t*>& rows, std::int64_t count,
                 const Array<std::uint8_t**>& real);

}  // namespace bsbr::attention
