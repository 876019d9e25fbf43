// The command line of bsbr_forward.
#pragma once

#include <cstdint>
#include <string>

#include "programs/model_options.hpp"

namespace bsbr::apps {

struct ForwardOptions : ModelOptions {
  std::int64_t random_tokens = 0;  ///< length of each of `batch` sequences
  std::int64_t batch = 1;
  std::int64_t seed = 0;
  std::string output;  ///< empty: none
};

/// Throws Answer, UsageError.
ForwardOptions parse_forward_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
