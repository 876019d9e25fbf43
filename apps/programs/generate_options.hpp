// The command line of bsbr_generate.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bsbr/sampling.hpp"
#include "programs/model_options.hpp"

namespace bsbr::apps {

struct GenerateOptions : ModelOptions {
  std::optional<std::string> prompt;  ///< text to continue, instead of an input
  std::int64_t tokens = 0;            ///< to generate, of each sequence
  std::int64_t batch = 1;             ///< continuations of a prompt
  SamplingOptions sampling;
  std::string state_in, state_out;  ///< files of streams; empty: none
  std::string output = "-";         ///< file, or "-": stdout

  bool has_prompt() const { return prompt || !input.empty(); }
  bool writes_stdout() const { return output == "-"; }
  bool prints_text() const { return !writes_stdout() && ModelOptions::prints_text(); }
  std::string input_name() const {
    if (prompt) return "the command line";
    return has_prompt() ? ModelOptions::input_name() : state_in;
  }
};

/// Throws Answer, UsageError.
GenerateOptions parse_generate_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
