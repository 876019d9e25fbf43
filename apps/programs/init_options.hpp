// The command line of bsbr_init.
#pragma once

#include <cstdint>
#include <string>

#include "bsbr/config.hpp"

namespace bsbr::apps {

struct InitOptions {
  std::string output;
  ModelConfig config;
  std::int64_t seed = 0;
  Precision precision = Precision::float32;
};

/// Throws Answer, UsageError (a configuration that no model can have included).
InitOptions parse_init_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
