// --recompute, of the programs that compute gradients.
#pragma once

#include <optional>

#include "bsbr/gradient.hpp"
#include "harness/command_line/command_line.hpp"

namespace bsbr::apps {

/// auto|all|none; auto leaves `recompute` empty.
void add_recompute_option(harness::CommandLine& line, std::optional<Recompute>& recompute);

}  // namespace bsbr::apps
