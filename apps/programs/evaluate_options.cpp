// The command line of bsbr_evaluate.
#include "programs/evaluate_options.hpp"

#include "harness/format.hpp"
#include "programs/recompute_option.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr const char* usage =
    "--model M.h5 --input FILE[:/dataset]\n"
    "                     [--bytes] [--max-tokens N]\n"
    "                     [--length L [--stride S] [--batch N]]\n"
    "                     [--pieces N] [--state-in S.h5] [--state-out S.h5]\n"
    "                     [--causality C] [--chunk-size B]\n"
    "                     [--precision float|double|bfloat16] [--repeat N] [--verify]\n"
    "                     [--gradients G.h5] [--recompute auto|all|none]\n"
    "                     [--token-losses T.h5] [--by-position FILE]\n"
    "                     [--json FILE|-] [--dry-run]\n"
    "                     [--progress auto|on|off] [--progress-interval SECONDS]\n"
    "                     [--quiet] [--timeout SECONDS]";

constexpr const char* description =
    "Tells how well a model predicts token sequences: the mean loss of the next token, -log softmax(logits)[next], in "
    "nats, bits a token and as perplexity. The model needs a head. All ranks of mpirun and all threads of each rank "
    "share the work.";

constexpr const char* after =
    "Tokens are those of bsbr_forward. Each sequence is evaluated as a whole: a token's target is the next one; the "
    "last "
    "token has none, nor has one that is padding or comes before padding. The loss is the mean over all positions that "
    "have a target, of all sequences, in double precision.\n"
    "--length L evaluates windows of the input, which then is a single sequence. Window i has the L ids from i S on, S "
    "as --stride says, and the last one's target is the id after them; there are as many windows as fit. A window "
    "sees "
    "nothing of the one before. With S < L windows overlap, and what counts of each but the first are the last S "
    "tokens: each has at least L - S tokens before it.\n"
    "--pieces N reads and computes N tokens of each sequence at a time, in memory for so many and for what later "
    "tokens "
    "need of earlier ones. --state-out saves that; with --state-in the input goes on where a saved stream ended: its "
    "first token follows the stream's last one, whose own loss is counted nowhere. Not for bsbr with a causality other "
    "than causal.\n"
    "--gradients also computes the gradient of that loss with respect to every weight, of the whole input as one "
    "batch, or of its first --batch windows, which then are all that is evaluated.\n"
    "Losses and gradients are bitwise identical on any number of ranks and threads, losses with any --batch and "
    "--pieces, and of a sequence that is taken up again.\n"
    "\n"
    "Examples:\n"
    "  bsbr_init -o model.h5 --architecture bsbr --head separate\n"
    "  bsbr_evaluate -m model.h5 -i book.txt\n"
    "  mpirun -n 4 bsbr_evaluate -m model.h5 -i ids.h5 --by-position curve.json\n"
    "  bsbr_evaluate -m model.h5 -i book.txt --length 4k --stride 2k\n"
    "  bsbr_evaluate -m model.h5 -i book.txt --pieces 64k --state-out book.h5\n"
    "\n"
    "Exit codes: 0 done, 2 usage, 3 bad input file or a model without a head, 4 not enough memory, 5 communication, 6 "
    "the output cannot be written, 7 --verify met NaN or infinity, 70 a bug. An error is one line on stderr, and a "
    "line "
    "'hint: ...' where there is one.\n";

void add_windows(CommandLine& line, EvaluateOptions& options) {
  line.add_number("--length", "evaluate windows of N tokens of the one sequence", options.length, 1);
  line.add_number("--stride", "with --length: tokens from one window to the next (default --length)", options.stride,
                  1);
  line.add_number("--batch", "with --length: windows at a time (default as many as have 16k tokens)", options.batch, 1);
}

void add_streams(CommandLine& line, EvaluateOptions& options) {
  line.start_group("Streams");
  line.add_number("--pieces", "feed each sequence to a stream, N tokens at a time", options.pieces, 1);
  line.add_text("--state-in", "FILE", "HDF5 file: continue the stream that --state-out has saved", options.state_in);
  line.add_text("--state-out", "FILE", "HDF5 file: save the stream after the last token", options.state_out);
}

void add_gradients(CommandLine& line, EvaluateOptions& options) {
  line.start_group("Gradients");
  line.add_text("--gradients", "FILE",
                "HDF5 file: what --token-losses writes, and the gradient of the mean loss for each weight",
                options.gradients);
  add_recompute_option(line, options.recompute);
}

void add_output(CommandLine& line, EvaluateOptions& options) {
  line.start_group("Output");
  line.add_text("--token-losses", "FILE", "HDF5 file: the loss of each token and its provenance", options.token_losses);
  line.add_text("--by-position", "FILE", "JSON file: the mean loss of each range of positions", options.by_position);
  add_report(line, options);
}

void check_windows(const CommandLine& line, const EvaluateOptions& options) {
  line.require_with("--stride", "--length");
  line.require_with("--batch", "--length");
  if (!options.length) return;
  if (options.stride && *options.stride > *options.length) {
    throw UsageError("--stride " + show_count(*options.stride) + " is more than --length " +
                     show_count(*options.length) + ": tokens between windows would not be evaluated");
  }
  if (options.max_tokens && *options.max_tokens <= *options.length) {
    throw UsageError("--max-tokens " + show_count(*options.max_tokens) + ": a window of --length " +
                     show_count(*options.length) + " takes " + show_count(*options.length + 1) +
                     " ids, as the last token's target is the id after it");
  }
}

void check_streams(const CommandLine& line, const EvaluateOptions& options) {
  for (const char* stream : {"--pieces", "--state-in", "--state-out"}) {
    for (const char* other : {"--length", "--gradients", "--verify", "--repeat"}) line.exclude(stream, other);
  }
  line.exclude("--state-in", "--by-position");  // whose positions are counted from a sequence's first token
  if (options.streams() && options.causality && *options.causality != Causality::causal) {
    throw UsageError("--causality " + std::string(to_string(*options.causality)) +
                     ": earlier tokens see later ones, so a sequence cannot come in pieces");
  }
}

void check_together(const CommandLine& line, const EvaluateOptions& options) {
  line.require("--model");
  line.require("--input");
  line.require_with("--recompute", "--gradients");
  if (!options.gradients.empty() && options.precision == Precision::bfloat16)
    throw UsageError("--gradients with --precision bfloat16: there are no gradients of rounded products",
                     "--precision float");
  check_windows(line, options);
  check_streams(line, options);
  const NamedFile token_losses{"--token-losses", options.token_losses}, gradients{"--gradients", options.gradients},
      by_position{"--by-position", options.by_position}, state_out{"--state-out", options.state_out};
  refuse_stdout(token_losses, "a file of losses");
  refuse_stdout(gradients, "a file of gradients");
  refuse_stdout(by_position, "a file of losses");
  refuse_stdout(state_out, "a state file");
  check_files(options, {token_losses, gradients, by_position, state_out});
  const NamedFile json{"--json", options.json == "-" ? "" : options.json};
  require_own_names({token_losses, by_position, state_out, json}, {{"--state-in", options.state_in}}, false);
}

}  // namespace

EvaluateOptions parse_evaluate_options(int argc, const char* const* argv) {
  EvaluateOptions options;
  CommandLine line("bsbr_evaluate", usage, description, after);
  add_model_and_input(line, options);
  add_max_tokens(line, options);
  add_windows(line, options);
  add_streams(line, options);
  add_computation(line, options);
  add_gradients(line, options);
  add_output(line, options);
  add_ranks(line, options);
  line.parse(argc, argv);
  check_together(line, options);
  return options;
}

}  // namespace bsbr::apps
