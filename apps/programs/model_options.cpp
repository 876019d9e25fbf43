#include "programs/model_options.hpp"

#include "harness/job/runtime.hpp"

namespace bsbr::apps {

using namespace harness;

TokenSource ModelOptions::source() const {
  TokenSource source = TokenSource::parse(input);
  source.bytes = bytes;
  return source;
}

void add_model_and_input(CommandLine& line, ModelOptions& options) {
  line.start_group("Input");
  line.add_text("-m,--model", "FILE", "model file: configuration and weights", options.model);
  line.add_text("-i,--input", "FILE[:/dataset]", "token ids; -: stdin", options.input);
  line.add_flag("--bytes", "read the input as bytes, whatever it is and whatever the vocabulary", options.bytes);
}

void add_max_tokens(CommandLine& line, ModelOptions& options) {
  line.add_number("--max-tokens", "use only the first N tokens of each sequence", options.max_tokens, 1);
}

void add_computation(CommandLine& line, ModelOptions& options) {
  line.start_group("Computation");
  line.add_choice<Causality>("--causality", "overrides the model's, for bsbr only", options.causality);
  line.add_number("--chunk-size", "tokens in a chunk; overrides the model's", options.chunk_size, 1, largest_size);
  line.add_choice<Precision>("--precision", "of the computation (default float)", options.precision);
  line.add_number(
      "--repeat",
      "run the forward N times and report the median time; the first run includes allocating memory (default 1)",
      options.repeat, 1, 1e9);
  line.add_flag("--verify", "compare with the plain double-precision reference, for short sequences", options.verify);
}

void add_report(CommandLine& line, ModelOptions& options) {
  line.add_text("--json", "FILE|-", "summary as JSON; -: on stdout, instead of the text", options.json);
  line.add_flag("--dry-run", "print what each rank would hold and the memory it would take; compute nothing",
                options.dry_run);
  add_progress_options(line, options.progress);
  line.add_flag("--quiet", "print no summary", options.quiet);
}

void add_ranks(CommandLine& line, ModelOptions& options) {
  line.start_group("Ranks");
  add_timeout_option(line, options.timeout);
}

void check_files(const ModelOptions& options, std::vector<NamedFile> outputs) {
  const std::string input = options.input.empty() || options.reads_stdin() ? "" : options.source().path;
  outputs.push_back({"--json", options.json == "-" ? "" : options.json});
  require_own_names(std::move(outputs), {{"--model", options.model}, {"--input", input}},
                    options.json == "-" || options.prints_text());
}

}  // namespace bsbr::apps
