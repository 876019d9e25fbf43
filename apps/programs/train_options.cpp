// The command line of bsbr_train.
#include "programs/train_options.hpp"

#include <vector>

#include "bsbr/io.hpp"
#include "files/output_names.hpp"
#include "harness/command_line/command_line.hpp"
#include "harness/job/runtime.hpp"
#include "programs/recompute_option.hpp"
#include "training/checkpoints.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr const char* usage =
    "(--model M.h5 --input FILE[:/dataset] --length L --steps N |\n"
    "                   --resume C.h5 [--steps N])\n"
    "                  --output C.h5 [--batch N] [--accumulate N] ...";

constexpr const char* description =
    "Trains a model with a head to predict the next token of a text or of token ids. The model that comes out has the "
    "same bits on any number of ranks and threads, whether the run went through or was stopped and resumed elsewhere.";

constexpr const char* after =
    "The input is one stream of ids: the bytes of a file, or a dataset or array of one dimension. A step takes "
    "--accumulate times --batch windows of it, of --length tokens each, with the id after each token for its target. "
    "Windows follow each other from a new offset in every epoch, in a new random order. Of a dataset of two dimensions "
    "each row is a sequence, with its attention_mask if there is one.\n"
    "A checkpoint is a model file, which every program of bsbr takes, with what it needs to go on. --resume takes "
    "all options that decide the numbers from it; the input must be what it was, unless --input is given. --steps "
    "may be raised; --batch and --accumulate may change if their product does not.\n"
    "SIGTERM, SIGUSR1 and --max-seconds end a run after its current step with a checkpoint and exit code 75; so does "
    "the end of a Slurm job, where the environment tells it. A second SIGTERM ends it at once.\n"
    "A step whose loss or gradient norm is NaN or infinite changes nothing.\n"
    "\n"
    "Examples:\n"
    "  bsbr_init -o model.h5 --architecture bsbr --vocab-size 256 --head separate\n"
    "  bsbr_train -m model.h5 -i book.txt --length 512 --steps 2000 -o trained.h5\n"
    "  mpirun -n 4 bsbr_train --resume trained.h5 --steps 4000 -o trained.h5\n"
    "\n"
    "Exit codes: 0 done, 2 usage, 3 bad input file or a model without a head, 4 not enough memory, 5 communication, 6 "
    "the output cannot be written, 7 too many steps with NaN or infinity, 70 a bug, 75 stopped early, to be resumed. "
    "An error is one line on stderr, and a line 'hint: ...' where there is one.\n";

constexpr double most = 1e300;

/// Options whose values are numbers of any size.
void add_real(CommandLine& line, const std::string& option, const std::string& help, double& target, double least) {
  line.add(option, "X", help, [&target, least](const std::string& name, const std::string& text) {
    target = number(name, text, least, most);
  });
}

void add_data(CommandLine& line, TrainOptions& options) {
  TrainingSettings& settings = options.settings;
  line.start_group("Model and data");
  line.add_text("-m,--model", "FILE", "model file to begin with", options.model);
  line.add_text("--resume", "FILE", "checkpoint to go on from, instead of --model", options.resume);
  line.add_text("-i,--input", "FILE[:/dataset]", "token ids to learn from", settings.input);
  line.add_flag("--bytes", "read inputs as bytes, whatever they are and whatever the vocabulary", settings.bytes);
  line.add_number("--length", "tokens of a sequence; not needed where rows are sequences", settings.length, 1);
  line.add("--shuffle", "on|off", "off: windows in the order of the file (default on)",
           [&settings](const std::string& name, const std::string& text) {
             if (text != "on" && text != "off") refuse_name(name, text, "on, off");
             settings.shuffle = text == "on";
           });
  line.offer("--shuffle", "on, off");
  line.add_number("--seed", "of the order of windows and of dropout (default 0)", settings.seed, 0, 9e18);
}

void add_steps(CommandLine& line, TrainOptions& options) {
  TrainingSettings& settings = options.settings;
  line.start_group("Steps");
  line.add_number("--steps", "steps of the optimiser, from the first of all on", settings.steps, 1);
  line.add_number("--batch", "sequences computed at a time (default 8)", settings.batch, 1, largest_batch);
  line.add_number("--accumulate",
                  "batches of a step; N batches have the bits of one of N times as many sequences "
                  "(default 1)",
                  settings.accumulate, 1, largest_batch);
  line.add_number("--stop-after", "stop after step N, as a signal would", options.stop_after, 1);
  line.add("--max-seconds", "SECONDS", "stop after the step in which so many seconds are over",
           [&options](const std::string& name, const std::string& text) {
             constexpr double longest = 1e9;
             options.max_seconds = number(name, text, 0, longest);
           });
  line.add_number("--max-bad-steps", "end with an error after N steps in a row with NaN or infinity (default 10)",
                  options.max_bad_steps, 1);
}

void add_optimizer(CommandLine& line, TrainOptions& options) {
  TrainingSettings& settings = options.settings;
  line.start_group("Optimiser: AdamW");
  add_real(line, "--learning-rate", "largest rate (default 0.001)", settings.learning_rate.learning_rate, 0);
  add_real(line, "--min-learning-rate", "the rate that a cosine falls to (default a tenth of --learning-rate)",
           settings.learning_rate.min_learning_rate, 0);
  line.add_number("--warmup-steps", "the rate rises for N steps (default a tenth of --steps, 100 at most)",
                  settings.learning_rate.warmup_steps, 0);
  line.add_number("--decay-steps", "the rate falls up to step N; 0: it does not (default --steps)",
                  settings.learning_rate.decay_steps, 0);
  add_real(line, "--beta1", "share that the mean of gradients keeps (default 0.9)", settings.optimizer.beta1, 0);
  add_real(line, "--beta2", "share that the mean of their squares keeps (default 0.95)", settings.optimizer.beta2, 0);
  add_real(line, "--epsilon", "added to the root of the latter (default 1e-8)", settings.optimizer.epsilon, 0);
  add_real(line, "--weight-decay", "of matrices, not of biases and norms (default 0.1)",
           settings.optimizer.weight_decay, 0);
  add_real(line, "--clip", "largest norm of the gradient; 0: any (default 1)", settings.clip, 0);
  add_real(line, "--dropout", "share of elements that are dropped before each residual sum (default that of the model)",
           settings.dropout, 0);
}

void add_validation(CommandLine& line, TrainOptions& options) {
  TrainingSettings& settings = options.settings;
  line.start_group("Validation");
  line.add_text("--validation", "FILE[:/dataset]", "token ids to measure the loss of, which are not learnt from",
                settings.validation);
  line.add_number("--validate-every",
                  "steps from one measurement to the next; the last step always has one (default "
                  "100)",
                  settings.validate_every, 1);
  line.add_number("--validation-tokens", "only the first N tokens, in whole sequences; 0: all (default 32k)",
                  settings.validation_tokens, 0);
}

void add_checkpoints(CommandLine& line, TrainOptions& options) {
  line.start_group("Checkpoints");
  line.add_text("-o,--output", "FILE", "checkpoint to write, at the end and before; may be that of --resume",
                options.output);
  line.add_number("--save-every", "steps from one checkpoint to the next (default 1000)", options.save_every, 1);
  line.add_number("--keep",
                  "keep the last N checkpoints; earlier ones of c.h5 are called c-step-S.h5 (default 1, "
                  "or as before --resume)",
                  options.keep, 1, 1000);
  line.add_text("--best", "FILE", "also a checkpoint of the lowest validation loss so far", options.best);
}

void add_computation(CommandLine& line, TrainOptions& options) {
  line.start_group("Computation");
  line.add_stored_precision("of weights, gradients and moments (default float)", options.settings.precision);
  add_recompute_option(line, options.recompute);
  line.add("--sequence-ranks", "N",
           "ranks that share a sequence; the others take other sequences (default the fewest "
           "with which --batch divides evenly)",
           [&options](const std::string& name, const std::string& text) {
             constexpr double most_ranks = 1 << 24;
             options.sequence_ranks = whole_number(name, text, 1, most_ranks);
           });
  add_timeout_option(line, options.timeout);
}

void add_report(CommandLine& line, TrainOptions& options) {
  line.start_group("Output");
  line.add_text("--log", "FILE", "one JSON object for each step; a resumed run goes on with it", options.log);
  line.add_text("--json", "FILE|-", "summary as JSON; -: on stdout, instead of the text", options.json);
  line.add_flag("--dry-run", "print the memory and the time that it would take; train nothing", options.dry_run);
  add_progress_options(line, options.progress);
  line.add_flag("--quiet", "print no summary, and no progress into a log", options.quiet);
}

void check_together(const CommandLine& line, const TrainOptions& options) {
  line.exclude("--model", "--resume");
  if (options.resume.empty()) {
    line.require("--model");
    line.require("--input");
    line.require("--steps");
  }
  line.require("--output");
  if (options.resume.empty()) {
    line.require_with("--validate-every", "--validation");
    line.require_with("--validation-tokens", "--validation");
    line.require_with("--best", "--validation");
  }
  const NamedFile output{"--output", options.output}, best{"--best", options.best}, log{"--log", options.log};
  refuse_stdout(output, "a checkpoint");
  refuse_stdout(best, "a checkpoint");
  refuse_stdout(log, "a log");
  for (const auto& [option, source] :
       {NamedFile{"--input", options.settings.input}, NamedFile{"--validation", options.settings.validation}}) {
    if (source == "-") throw UsageError(option + " -: training reads its data again and again", "a file");
  }
  require_own_files(options, options.settings);
}

}  // namespace

void require_own_files(const TrainOptions& options, const TrainingSettings& settings) {
  const auto path_of = [](const std::string& source) { return source.empty() ? "" : TokenSource::parse(source).path; };
  const NamedFile output{"--output", options.output}, best{"--best", options.best}, log{"--log", options.log},
      json{"--json", options.json == "-" ? "" : options.json};
  const std::vector<NamedFile> read{
      {"--model", options.model}, {"--input", path_of(settings.input)}, {"--validation", path_of(settings.validation)}};
  const bool prints = options.json == "-" || options.prints_text();
  require_own_names({output, best, log, json}, read, prints);
  require_own_names({best, log, json}, {{"--resume", options.resume}}, false);  // which the output may replace
  if (options.keep.value_or(1) == 1) return;
  for (const auto& [option, path] : {read[0], read[1], read[2], best, log, json}) {
    if (!is_name_of_kept(path, options.output)) continue;
    throw UsageError(option + " " + path + ": with --keep that name is one of an earlier checkpoint of " +
                         options.output + ", which is replaced and removed",
                     "another --output");
  }
}

TrainOptions parse_train_options(int argc, const char* const* argv) {
  TrainOptions options;
  CommandLine line("bsbr_train", usage, description, after);
  add_data(line, options);
  add_steps(line, options);
  add_optimizer(line, options);
  add_validation(line, options);
  add_checkpoints(line, options);
  add_computation(line, options);
  add_report(line, options);
  line.parse(argc, argv);
  check_together(line, options);
  for_each_setting(options.settings, [&](const std::string& name, const auto&) {
    if (line.given("--" + name)) options.given.insert(name);
  });
  options.progress.in_logs = !options.quiet;
  return options;
}

}  // namespace bsbr::apps
