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

  std::optional<std::int64_t> pieces;  ///< tokens that a stream is fed at a time; empty: all
  std::string state_in, state_out;     ///< files of streams; empty: none

  /// Whether sequences are fed to a stream.
  bool streams() const { return pieces || !state_in.empty() || !state_out.empty(); }
};

/// Throws Answer, UsageError.
EvaluateOptions parse_evaluate_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
