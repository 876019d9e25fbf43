// The command line of bsbr_forward.
#include "programs/forward_options.hpp"

#include "harness/format.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr const char* usage =
    "--model M.h5 (--input FILE[:/dataset] | --random-tokens N)\n"
    "                    [--bytes] [--batch N] [--seed S] [--max-tokens N]\n"
    "                    [--output R.h5] [--causality C] [--chunk-size B]\n"
    "                    [--precision float|double|bfloat16]\n"
    "                    [--repeat N] [--verify] [--dry-run] [--json FILE|-]\n"
    "                    [--progress auto|on|off] [--progress-interval SECONDS]\n"
    "                    [--quiet] [--timeout SECONDS]";

constexpr const char* description =
    "Runs one forward pass of a transformer with BSBR attention (block sparse attention with block retrieval), or one "
    "of six other "
    "attentions, over token sequences. All ranks of mpirun and all threads of each rank share the work. Writes the "
    "hidden states and "
    "prints speed and memory use.";

constexpr const char* after =
    "Tokens: an HDF5 dataset of integers [sequence] or [batch, sequence] (/inputs/input_ids, else /input_ids, or the "
    "one named after a "
    "colon) with an optional attention_mask beside it; a .npy file of integers; or any other file as bytes, one token "
    "per byte, for a "
    "model with vocab_size 256.\n"
    "Each rank holds whole chunks of every sequence. The result is bitwise identical on any number of ranks and "
    "threads.\n"
    "Whole numbers may end in k, M, G or T, which stand for powers of 1,024 (128k = 131,072), or have an exponent of "
    "ten (1e6).\n"
    "\n"
    "Examples:\n"
    "  bsbr_init -o model.h5 --architecture bsbr --hidden-dim 512\n"
    "  bsbr_forward -m model.h5 -i book.txt -o result.h5\n"
    "  mpirun -n 4 bsbr_forward -m model.h5 --random-tokens 256k --json summary.json\n"
    "  bsbr_forward -m model.h5 --random-tokens 1M --dry-run\n"
    "\n"
    "Exit codes: 0 done, 2 usage, 3 bad input file, 4 not enough memory, 5 communication, 6 the output cannot be "
    "written, 7 --verify met "
    "NaN or infinity, 70 a bug. An error is one line on stderr, and a line 'hint: ...' where there is one.\n";

void add_input(CommandLine& line, ForwardOptions& options) {
  add_model_and_input(line, options);
  line.add_number("--random-tokens", "random ids instead: sequences of N tokens", options.random_tokens, 1);
  line.add_number("--batch", "with --random-tokens: number of sequences (default 1)", options.batch, 1);
  line.add_number("--seed", "with --random-tokens: random seed (default 0)", options.seed, 0, 9e18);
  add_max_tokens(line, options);
}

void add_output(CommandLine& line, ForwardOptions& options) {
  line.start_group("Output");
  line.add_text("-o,--output", "FILE", "result file: the hidden states and their provenance", options.output);
  add_report(line, options);
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
    throw UsageError("--batch: " + show_several(options.batch, "sequence") + " of " +
                     show_count(options.random_tokens) + " tokens are too many");
  }
  const NamedFile output{"--output", options.output};
  refuse_stdout(output, "a result");
  check_files(options, {output});
}

}  // namespace

ForwardOptions parse_forward_options(int argc, const char* const* argv) {
  ForwardOptions options;
  CommandLine line("bsbr_forward", usage, description, after);
  add_input(line, options);
  add_computation(line, options);
  add_output(line, options);
  add_ranks(line, options);
  line.parse(argc, argv);
  check_together(line, options);
  return options;
}

}  // namespace bsbr::apps
