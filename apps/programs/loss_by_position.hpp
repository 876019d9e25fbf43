// The file of --by-position.
#pragma once

#include <string>
#include <vector>

#include "bsbr/loss.hpp"
#include "harness/job/runtime.hpp"

namespace bsbr::apps {

/// One object, with a list of ranges. Collective; rank 0 writes. Throws OutputError on all ranks.
void write_by_position(const harness::Runtime& runtime, const std::string& path,
                       const std::vector<PositionLoss>& ranges);

}  // namespace bsbr::apps
