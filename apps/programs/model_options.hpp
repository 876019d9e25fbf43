// The options that bsbr_forward and bsbr_evaluate share: a model, its input, how it is run, and what is said of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bsbr/config.hpp"
#include "bsbr/io.hpp"
#include "files/output_names.hpp"
#include "harness/command_line/command_line.hpp"
#include "progress/progress.hpp"

namespace bsbr::apps {

struct ModelOptions {
  std::string model;
  std::string input;   ///< empty: random tokens; "-": stdin
  bool bytes = false;  ///< the input's bytes are the ids, whatever it is
  std::optional<std::int64_t> max_tokens;
  std::optional<std::int64_t> chunk_size;  ///< instead of the model's
  std::optional<Causality> causality;      ///< instead of the model's
  Precision precision = Precision::float32;
  std::int64_t repeat = 1;
  std::string json;  ///< empty: none; "-": stdout
  bool dry_run = false, verify = false, quiet = false;
  ProgressOptions progress;
  double timeout = 0;  ///< seconds to wait for other ranks; 0: for ever

  bool prints_text() const { return !quiet && json != "-"; }
  TokenSource source() const;  ///< of the input
  bool reads_stdin() const { return input == "-"; }
  std::string input_name() const { return input.empty() ? "random" : reads_stdin() ? "stdin" : input; }
};

/// --model, --input, --bytes.
void add_model_and_input(harness::CommandLine& line, ModelOptions& options);

void add_max_tokens(harness::CommandLine& line, ModelOptions& options);

/// --causality to --verify.
void add_computation(harness::CommandLine& line, ModelOptions& options);

/// --json, --dry-run, --progress, --quiet.
void add_report(harness::CommandLine& line, ModelOptions& options);

/// The group of --timeout.
void add_ranks(harness::CommandLine& line, ModelOptions& options);

/// Throws UsageError if what is read would be overwritten, or a file written twice. `outputs`: besides that of --json.
void check_files(const ModelOptions& options, std::vector<NamedFile> outputs);

}  // namespace bsbr::apps
