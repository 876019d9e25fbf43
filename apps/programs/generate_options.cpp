// The command line of bsbr_generate.
#include "programs/generate_options.hpp"

#include "files/output_names.hpp"
#include "harness/command_line/command_line.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr const char* usage =
    "--model M.h5 (--prompt TEXT | --input FILE[:/dataset])\n"
    "                     --tokens N [--batch N] [--bytes]\n"
    "                     [--state-in S.h5] [--state-out S.h5]\n"
    "                     [--temperature X] [--top-k K] [--top-p P] [--seed S]\n"
    "                     [--output FILE|-] [--json FILE|-]\n"
    "                     [--precision float|double|bfloat16]\n"
    "                     [--progress auto|on|off] [--progress-interval SECONDS]\n"
    "                     [--quiet] [--timeout SECONDS]";

constexpr const char* description =
    "Continues a text, or token ids, with a model that has a head. The same seed gives the same tokens on any number "
    "of ranks and threads.";

constexpr const char* after =
    "A model whose vocabulary is 256 reads and writes bytes: they go to stdout as they come, never half a character "
    "of UTF-8. Any other model takes token ids as --input, of bsbr_forward's files, and writes ids, one a line. The "
    "prompt is not repeated.\n"
    "A token is drawn from softmax(logits / temperature), of which --top-k and then --top-p leave the most probable "
    "tokens only. --temperature 0 takes the most probable one.\n"
    "With --batch N the prompt is continued N times, each time with random numbers of its own. Where the input has "
    "several rows, each is a prompt. Of several sequences one is written after the other, with a line feed after "
    "each.\n"
    "--state-out saves the stream: what the model has to know of prompt and generated tokens. With --state-in a run "
    "continues a stream that bsbr_generate or bsbr_evaluate has saved, with a prompt or without one. Two runs write "
    "what one would.\n"
    "SIGINT (Ctrl-C), SIGTERM and a closed stdout end a run after its current token: what was generated is written, "
    "and the exit code is 75. A second signal ends it at once.\n"
    "\n"
    "Examples:\n"
    "  bsbr_generate -m trained.h5 --prompt 'Once upon a time' --tokens 500\n"
    "  bsbr_generate -m trained.h5 -i book.txt --tokens 200 --temperature 0.8\n"
    "  mpirun -n 4 bsbr_generate -m trained.h5 -i ids.h5 --tokens 1k -o new.txt\n"
    "  bsbr_generate -m trained.h5 -i book.txt --tokens 100 --state-out book.h5\n"
    "  bsbr_generate -m trained.h5 --state-in book.h5 --tokens 100\n"
    "\n"
    "Exit codes: 0 done, 2 usage, 3 bad input file or a model without a head, 4 not enough memory, 5 communication, 6 "
    "the output cannot be written, 7 a logit is NaN or infinite, 70 a bug, 75 stopped early. An error is one line on "
    "stderr, and a line 'hint: ...' where there is one.\n";

constexpr double most = 1e300, most_sequences = 1 << 20;

void add_prompt(CommandLine& line, GenerateOptions& options) {
  add_model_and_input(line, options);
  line.add("--prompt", "TEXT", "text to continue, instead of --input",
           [&options](const std::string&, const std::string& text) { options.prompt = text; });
}

void add_sampling(CommandLine& line, GenerateOptions& options) {
  SamplingOptions& sampling = options.sampling;
  line.start_group("Tokens");
  line.add_number("--tokens", "tokens to generate, of each sequence", options.tokens, 1);
  line.add_number("--batch", "continue the prompt N times (default 1)", options.batch, 1, most_sequences);
  line.add("--temperature", "X", "logits are divided by it; 0: the most probable token (default 1)",
           [&sampling](const std::string& name, const std::string& text) {
             sampling.temperature = number(name, text, 0, most);
           });
  line.add_number("--top-k", "only the N most probable tokens; 0: all (default 0)", sampling.top_k, 0);
  line.add("--top-p", "P", "of these only the fewest that together have probability P (default 1)",
           [&sampling](const std::string& name, const std::string& text) {
             constexpr double least = 1e-300;
             sampling.top_p = number(name, text, least, 1);
           });
  line.add("--seed", "N", "of the random numbers (default 0)",
           [&sampling](const std::string& name, const std::string& text) {
             sampling.seed = static_cast<std::uint64_t>(whole_number(name, text, 0, 9e18));
           });
}

void add_streams(CommandLine& line, GenerateOptions& options) {
  line.start_group("Streams");
  line.add_text("--state-in", "FILE", "HDF5 file: continue the stream that --state-out has saved", options.state_in);
  line.add_text("--state-out", "FILE", "HDF5 file: save the stream after the last token", options.state_out);
}

void add_output(CommandLine& line, GenerateOptions& options) {
  line.start_group("Output");
  line.add_text("-o,--output", "FILE|-", "what is generated; -: on stdout, as it comes (default -)", options.output);
  line.add_text("--json", "FILE|-", "summary as JSON; -: on stdout, instead of the text", options.json);
  add_progress_options(line, options.progress);
  line.add_flag("--quiet", "print no summary", options.quiet);
}

void check_together(const CommandLine& line, const GenerateOptions& options) {
  line.require("--model");
  if (!options.prompt && options.state_in.empty()) line.require("--input");
  line.exclude("--prompt", "--input");
  line.exclude("--batch", "--state-in");  // there are as many sequences as the stream has
  line.exclude("--prompt", "--bytes");
  line.require_with("--bytes", "--input");
  line.require("--tokens");
  if (options.prompt && options.prompt->empty())
    throw UsageError("--prompt is empty: there must be a token to go on from", "a space, or a line feed, is one");
  if (options.output.empty()) throw UsageError("--output is empty", "name a file, or - for stdout");
  if (options.writes_stdout() && options.json == "-")
    throw UsageError("--json -: what is generated goes to stdout already", "--output FILE, or --json FILE");
  const NamedFile state_out{"--state-out", options.state_out};
  refuse_stdout(state_out, "a state file");
  const std::string input = options.input.empty() || options.reads_stdin() ? "" : options.source().path;
  require_own_names({{"--output", options.writes_stdout() ? "" : options.output},
                     state_out,
                     {"--json", options.json == "-" ? "" : options.json}},
                    {{"--model", options.model}, {"--input", input}, {"--state-in", options.state_in}},
                    options.writes_stdout() || options.json == "-" || options.prints_text());
}

}  // namespace

GenerateOptions parse_generate_options(int argc, const char* const* argv) {
  GenerateOptions options;
  CommandLine line("bsbr_generate", usage, description, after);
  add_prompt(line, options);
  add_sampling(line, options);
  add_streams(line, options);
  line.start_group("Computation");
  line.add_choice<Precision>("--precision", "of the computation (default float)", options.precision);
  add_output(line, options);
  add_ranks(line, options);
  line.parse(argc, argv);
  check_together(line, options);
  return options;
}

}  // namespace bsbr::apps
