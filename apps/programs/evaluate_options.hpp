// The command line of bsbr_evaluate.
#pragma once

#include <string>

#include "programs/model_options.hpp"

namespace bsbr::apps {

struct EvaluateOptions : ModelOptions {
  std::string token_losses, gradients, by_position;  ///< files; empty: none
};

/// Throws Answer, UsageError.
EvaluateOptions parse_evaluate_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
