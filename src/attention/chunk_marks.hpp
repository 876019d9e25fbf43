// Which chunks have a real token.
#pragma once

#include "bsbr/types.hpp"

namespace bsbr::attention {

/// [batch, chunks]: the last chunk ≤ i with a real token, −1 if there is none. real: [batch, chunks], 1 where a chunk
/// has one.
Array<const std::int64_t**> find_nearest_real(const Execution& execution, const Array<const std::uint8_t**>& real);

}  // namespace bsbr::attention
