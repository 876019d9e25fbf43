// What validate() needs of the weight table before it can trust the sizes: their sum in 128 bits.
#pragma once

#include "bsbr/config.hpp"

namespace bsbr {

/// parameter_count without overflow, for any configuration whose fields are within their ranges.
__int128 wide_parameter_count(const ModelConfig& config);

}  // namespace bsbr
