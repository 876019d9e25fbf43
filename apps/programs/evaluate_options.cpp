// The command line of bsbr_evaluate.
#include "programs/evaluate_options.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr const char* usage =
    "--model M.h5 --input FILE[:/dataset]\n"
    "                     [--bytes] [--max-tokens N]\n"
    "                     [--causality C] [--chunk-size B]\n"
    "                     [--precision float|double] [--repeat N] [--verify]\n"
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
    "--gradients also computes the gradient of that loss with respect to every weight, of the whole input as one "
    "batch.\n"
    "Losses and gradients are bitwise identical on any number of ranks and threads.\n"
    "\n"
    "Examples:\n"
    "  bsbr_init -o model.h5 --architecture bsbr --head separate\n"
    "  bsbr_evaluate -m model.h5 -i book.txt\n"
    "  mpirun -n 4 bsbr_evaluate -m model.h5 -i ids.h5 --by-position curve.json\n"
    "\n"
    "Exit codes: 0 done, 2 usage, 3 bad input file or a model without a head, 4 not enough memory, 5 communication, 6 "
    "the output cannot be written, 7 --verify met NaN or infinity, 70 a bug. An error is one line on stderr, and a "
    "line "
    "'hint: ...' where there is one.\n";

/// What --recompute takes: besides all and none, auto.
std::optional<Recompute> recompute_of(const std::string& name, const std::string& text) {
  if (text == "auto") return std::nullopt;
  for (const auto& [value, known] : recomputations) {
    if (text == known) return value;
  }
  throw UsageError(name + " " + text + " is none of auto, all, none");
}

void add_gradients(CommandLine& line, EvaluateOptions& options) {
  line.start_group("Gradients");
  line.add_text("--gradients", "FILE",
                "HDF5 file: what --token-losses writes, and the gradient of the mean loss for each weight",
                options.gradients);
  line.add(
      "--recompute", "auto|all|none",
      "what the backward pass computes again of each layer: all, which takes least memory; none: attentions and "
      "projections are kept; auto: none where memory is enough (default). The numbers are the same",
      [&options](const std::string& name, const std::string& text) { options.recompute = recompute_of(name, text); });
}

void add_output(CommandLine& line, EvaluateOptions& options) {
  line.start_group("Output");
  line.add_text("--token-losses", "FILE", "HDF5 file: the loss of each token and its provenance", options.token_losses);
  line.add_text("--by-position", "FILE", "JSON file: the mean loss of each range of positions", options.by_position);
  add_report(line, options);
}

void check_together(const CommandLine& line, const EvaluateOptions& options) {
  line.require("--model");
  line.require("--input");
  line.require_with("--recompute", "--gradients");
  const NamedFile token_losses{"--token-losses", options.token_losses}, gradients{"--gradients", options.gradients},
      by_position{"--by-position", options.by_position};
  refuse_stdout(token_losses, "a file of losses");
  refuse_stdout(gradients, "a file of gradients");
  refuse_stdout(by_position, "a file of losses");
  check_files(options, {token_losses, gradients, by_position});
  if (options.verify && !options.gradients.empty())
    throw UsageError("--verify compares hidden states, which --gradients does not keep", "leave one of the two out");
}

}  // namespace

EvaluateOptions parse_evaluate_options(int argc, const char* const* argv) {
  EvaluateOptions options;
  CommandLine line("bsbr_evaluate", usage, description, after);
  add_model_and_input(line, options);
  add_max_tokens(line, options);
  add_computation(line, options);
  add_gradients(line, options);
  add_output(line, options);
  add_ranks(line, options);
  line.parse(argc, argv);
  check_together(line, options);
  return options;
}

}  // namespace bsbr::apps
