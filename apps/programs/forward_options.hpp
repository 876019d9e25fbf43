// The command line of bsbr_forward.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bsbr/config.hpp"
#include "bsbr/io.hpp"
#include "progress/progress.hpp"

namespace bsbr::apps {

struct ForwardOptions {
  std::string model;
  std::string input;               ///< empty: random tokens; "-": stdin
  bool bytes = false;              ///< the input's bytes are the ids, whatever it is
  std::int64_t random_tokens = 0;  ///< length of each of `batch` sequences
  std::int64_t batch = 1;
  std::int64_t seed = 0;
  std::optional<std::int64_t> max_tokens;
  std::optional<std::int64_t> chunk_size;  ///< instead of the model's
  std::optional<Causality> causality;      ///< instead of the model's
  Precision precision = Precision::float32;
  std::int64_t repeat = 1;
  std::string output, json;  ///< empty: none; json "-": stdout
  bool dry_run = false, verify = false, quiet = false;
  ProgressOptions progress;
  double timeout = 0;  ///< seconds to wait for other ranks; 0: for ever

  bool prints_text() const { return !quiet && json != "-"; }
  TokenSource source() const;  ///< of the input
  bool reads_stdin() const { return input == "-"; }
  std::string input_name() const { return input.empty() ? "random" : reads_stdin() ? "stdin" : input; }
};

/// Throws Answer, UsageError.
ForwardOptions parse_forward_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
