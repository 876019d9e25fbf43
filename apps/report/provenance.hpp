// Where a result comes from: what its file says of the run that has made it.
#pragma once

#include "bsbr/io.hpp"
#include "environment/environment.hpp"
#include "programs/model_options.hpp"

namespace bsbr::apps {

/// The attributes of a result file: the environment, where model and ids come from, and when it was made. Whole on rank
/// 0, which writes them.
Attributes provenance(const Environment& environment, const ModelOptions& options);

}  // namespace bsbr::apps
