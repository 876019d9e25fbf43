// The command line of bsbr_evaluate.
#pragma once

#include <optional>
#include <string>

#include "bsbr/gradient.hpp"
#include "programs/model_options.hpp"

namespace bsbr::apps {

struct EvaluateOptions : ModelOptions {
  std::optional<std::int64_t> length;  ///< of windows; empty: the input's sequences are evaluated
  std::optional<std::int64_t> stride;  ///< from one window to the next; empty: their length
  std::optional<std::int64_t> batch;   ///< windows at a time; empty: as many as have some thousand tokens
  std::optional<Recompute> recompute;  ///< empty: nothing where memory is enough for that, else everything
  std::string token_losses, gradients, by_position;  ///< files; empty: none
};

/// Throws Answer, UsageError.
EvaluateOptions parse_evaluate_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
