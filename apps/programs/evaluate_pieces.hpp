// bsbr_evaluate where sequences come in pieces: --pieces, --state-in, --state-out.
#pragma once

#include <string>

#include "bsbr/config.hpp"
#include "harness/job/runtime.hpp"
#include "programs/evaluate_options.hpp"

namespace bsbr::apps {

/// Feeds all sequences of the input to a stream, evaluates them, and writes what was asked for. Collective.
template <class Real>
void evaluate_pieces(const harness::Runtime& runtime, const EvaluateOptions& options, const std::string& stdin_path,
                     const ModelConfig& config);

}  // namespace bsbr::apps
