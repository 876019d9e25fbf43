// The command line of bsbr_forward.
#include "forward_options.hpp"

#include "command_line.hpp"
#include "format.hpp"
#include "output_names.hpp"
#include "runtime.hpp"

namespace bsbr::apps {
namespace {

constexpr const char* usage =
    "--model M.h5 (--input FILE[:/dataset] [--bytes] | --random-tokens N [--batch N] [--seed S])\n"
    "                    [--output R.h5] [--max-tokens N] [--causality C] [--chunk-size B] [--precision float|double]\n"
    "                    [--repeat N] [--json FILE|-] [--dry-run] [--verify] [--progress auto|on|off] [--quiet]\n"
    "                    [--timeout SECONDS]";

constexpr const char* description =
    "Runs a transformer with BSBR attention (block sparse attention with block retrieval), or one of six others, over\n"
    "sequences of tokens: one forward pass, in parallel over the threads of each rank and over the ranks of mpirun.\n"
    "Writes the hidden states, and says how fast it was and how much memory it took.\n";

constexpr const char* after =
    "Tokens: an HDF5 dataset of integers [sequence] or [batch, sequence] (/inputs/input_ids, else /input_ids, or the one named\n"
    "after a colon) with an optional attention_mask beside it; a .npy file of integers; or any other file as bytes, one token\n"
    "per byte, for a model with vocab_size 256.\n"
    "Every rank holds whole chunks of each sequence; the result has the same bits on any number of ranks and threads.\n"
    "\n"
    "Examples:\n"
    "  bsbr_init --output model.h5 --architecture bsbr --hidden-dim 512\n"
    "  bsbr_forward --model model.h5 --input book.txt --output result.h5\n"
    "  mpirun -n 4 bsbr_forward --model model.h5 --random-tokens 262144 --repeat 3 --json summary.json\n"
    "  bsbr_forward --model model.h5 --random-tokens 1048576 --dry-run\n"
    "\n"
    "Exit codes: 0 done, 2 usage, 3 bad input file, 4 not enough memory, 5 communication, 6 the output cannot be written,\n"
    "7 --verify has found the result wrong, 70 a bug. Errors are one line on stderr, and a line 'hint: ...' where there is one.\n";

void add_input(CommandLine& line, ForwardOptions& options) {
  line.start_group("Input");
  line.add_text("--model", "FILE", "model file: configuration and weights", options.model);
  line.add_text("--input", "FILE[:/dataset]", "token ids", options.input);
  line.add_flag("--bytes", "read the input as bytes, whatever it is and whatever the vocabulary", options.bytes);
  line.add_number("--random-tokens", "random ids instead: sequences of N tokens", options.random_tokens, 1);
  line.add_number("--batch", "with --random-tokens: number of sequences (default 1)", options.batch, 1);
  line.add_number("--seed", "with --random-tokens: random seed (default 0)", options.seed, 0, 9e18);
  line.add_number("--max-tokens", "use no more than the first N tokens of each sequence", options.max_tokens, 1);
}

void add_computation(CommandLine& line, ForwardOptions& options) {
  line.start_group("Computation");
  line.add_choice<Causality>("--causality", "instead of the model's, for bsbr only", options.causality);
  line.add_number("--chunk-size", "tokens in a chunk, instead of the model's", options.chunk_size, 1, largest_size);
  line.add_choice<Precision>("--precision", "of weights, states and result (default float)", options.precision);
  line.add_number("--repeat",
                  "run the forward N times, and give the median time of all N; the first one\nincludes setting memory up (default 1)",
                  options.repeat, 1, 1e9);
  line.add_flag("--verify", "compare with the plain double-precision reference, for short sequences", options.verify);
}

void add_output(CommandLine& line, ForwardOptions& options) {
  line.start_group("Output");
  line.add_text("--output", "FILE", "result file: the hidden states, and where they come from", options.output);
  line.add_text("--json", "FILE|-", "summary as JSON; -: on stdout, in place of the text", options.json);
  line.add_flag("--dry-run", "print which rank would hold what, and the memory it would take; compute nothing", options.dry_run);
  line.add("--progress", "auto|on|off", "on stderr; auto: only on a terminal (default auto)",
           [&options](const std::string& name, const std::string& text) { options.progress = progress_mode(name, text); });
  line.add_flag("--quiet", "print no summary", options.quiet);
}

/// Nothing that is read is overwritten, and no file written twice.
void check_files(const ForwardOptions& options) {
  const std::string input = options.input.empty() ? "" : options.source().path;
  const NamedFile output{"--output", options.output}, json{"--json", options.json == "-" ? "" : options.json};
  refuse_stdout(output, "a result");
  require_own_names({output, json}, {{"--model", options.model}, {"--input", input}}, options.json == "-" || options.prints_text());
}

void check_together(const CommandLine& line, const ForwardOptions& options) {
  line.require("--model");
  line.exclude("--input", "--random-tokens");
  if (!line.given("--input") && !line.given("--random-tokens")) {
    throw UsageError("--input is missing", "name a file of tokens, or --random-tokens N");
  }
  line.require_with("--bytes", "--input");
  line.require_with("--batch", "--random-tokens");
  line.require_with("--seed", "--random-tokens");
  if (static_cast<double>(options.batch) * static_cast<double>(options.random_tokens) > CommandLine::largest_count) {
    throw UsageError("--batch: " + show_several(options.batch, "sequence") + " of " + show_count(options.random_tokens) +
                     " tokens are too many");
  }
  check_files(options);
}

}  // namespace

TokenSource ForwardOptions::source() const {
  TokenSource source = TokenSource::parse(input);
  source.bytes = bytes;
  return source;
}

ForwardOptions parse_forward_options(int argc, const char* const* argv) {
  ForwardOptions options;
  CommandLine line("bsbr_forward", usage, description, after);
  add_input(line, options);
  add_computation(line, options);
  add_output(line, options);
  line.start_group("Ranks");
  add_timeout_option(line, options.timeout);
  line.parse(argc, argv);
  check_together(line, options);
  return options;
}

}  // namespace bsbr::apps
