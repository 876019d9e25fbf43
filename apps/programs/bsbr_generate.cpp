// bsbr_generate: continues token sequences with a model, token by token, on all ranks.
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <chrono>
#include <span>
#include <utility>

#include "architectures/traits.hpp"
#include "bsbr/io.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/model.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/sampling.hpp"
#include "generation/token_output.hpp"
#include "harness/job/runtime.hpp"
#include "harness/job/stop_signals.hpp"
#include "harness/memory.hpp"
#include "kernels/backend.hpp"
#include "measure/measurement.hpp"
#include "memory/footprint.hpp"
#include "programs/generate_options.hpp"
#include "programs/model_run.hpp"
#include "progress/progress.hpp"
#include "report/generation_summary.hpp"
#include "report/report.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr std::int64_t bytes_there_are = 256;

// ---- The prompt -----------------------------------------------------------------------------------------------------

/// What is continued.
struct Prompt {
  TokenSource source;  ///< without a path: the text of the command line
  TokenShape shape;
};

Prompt find_prompt(const GenerateOptions& options, const std::string& stdin_path, std::int64_t vocab_size,
                   MPI_Comm comm) {
  if (!options.prompt) return {source_of(options, stdin_path), find_input_shape(options, stdin_path, vocab_size, comm)};
  if (vocab_size != bytes_there_are) {
    throw UsageError("--prompt is bytes, and the model's vocab_size is " + std::to_string(vocab_size),
                     "make token ids of the text, and give them as --input");
  }
  return {{}, {.batch = 1, .length = static_cast<std::int64_t>(options.prompt->size())}};
}

/// So many sequences: the rows of the input, or one row several times.
std::int64_t choose_batch(const GenerateOptions& options, const Prompt& prompt) {
  if (prompt.shape.batch == 1) return options.batch;
  if (options.batch > 1) {
    throw UsageError("--batch " + std::to_string(options.batch) + ": " + options.input_name() + " has " +
                         std::to_string(prompt.shape.batch) + " rows, each of which is continued",
                     "a dataset of one row, or no --batch");
  }
  return prompt.shape.batch;
}

/// The text of the command line: this rank's part, [1, local tokens].
Tokens tokens_of(const std::string& text, const Sequence& sequence) {
  Tokens tokens{HostArray<std::int32_t**>("bsbr::generate::ids", 1, sequence.local_tokens()), std::nullopt};
  for (std::int64_t t = 0; t < sequence.local_tokens(); ++t)
    tokens.ids(0, t) = static_cast<unsigned char>(text[static_cast<std::size_t>(sequence.offset() + t)]);
  return tokens;
}

/// The rank that has the last token of a sequence, which has one.
int last_rank_of(const Sequence& sequence) {
  int rank = sequence.ranks() - 1;
  while (sequence.first_token_of(rank) == sequence.end()) --rank;
  return rank;
}

/// What comes behind padding has nothing to go on from.
void require_real_end(const Prompt& prompt, const Tokens& tokens, const Sequence& sequence) {
  parallel::agree(sequence.comm(), [&] {
    if (!tokens.mask || sequence.rank() != last_rank_of(sequence)) return;
    for (std::int64_t row = 0; row < sequence.batch(); ++row) {
      if ((*tokens.mask)(row, sequence.local_tokens() - 1) == 1) continue;
      throw FileError(prompt.source.path + ": the last token of row " + std::to_string(row) + " is padding",
                      "prompts are padded on the left");
    }
  });
}

/// Row 0 so many times.
template <class Value>
HostArray<Value**> repeated(const HostArray<Value**>& row, std::int64_t batch) {
  const HostArray<Value**> rows("bsbr::generate::rows", batch, row.extent(1));
  for (std::int64_t i = 0; i < batch; ++i) {
    for (std::size_t t = 0; t < row.extent(1); ++t) rows(i, t) = row(0, t);
  }
  return rows;
}

/// The prompts of a batch: this rank's part, [batch, local tokens]. Collective.
Tokens read_prompts(const GenerateOptions& options, const Prompt& prompt, const Sequence& sequence,
                    std::int64_t vocab_size) {
  if (prompt.shape.batch == sequence.batch() && !options.prompt) {
    Tokens tokens = read_tokens(prompt.source, sequence, vocab_size);
    require_real_end(prompt, tokens, sequence);
    return tokens;
  }
  const Sequence of_one(sequence.comm(), 1, sequence.length(), sequence.chunk_size());
  Tokens tokens = options.prompt ? tokens_of(*options.prompt, of_one) : read_tokens(prompt.source, of_one, vocab_size);
  require_real_end(prompt, tokens, of_one);
  tokens.ids = repeated(tokens.ids, sequence.batch());
  if (tokens.mask) tokens.mask = repeated(*tokens.mask, sequence.batch());
  return tokens;
}

// ---- From tokens to tokens ------------------------------------------------------------------------------------------

/// The piece of one token of each sequence behind those before: this rank's part.
Tokens next_tokens_of(const std::vector<std::int32_t>& ids, const Sequence& piece) {
  Tokens tokens{HostArray<std::int32_t**>("bsbr::generate::ids", piece.batch(), piece.local_tokens()), std::nullopt};
  for (std::int64_t row = 0; row < piece.batch(); ++row) {
    for (std::int64_t t = 0; t < piece.local_tokens(); ++t) tokens.ids(row, t) = ids[static_cast<std::size_t>(row)];
  }
  return tokens;
}

/// Feeds the next piece of all sequences to a model, of which `states` holds what came before. Collective.
/// Returns the hidden states of the last tokens, [batch, hidden_dim], on all ranks.
template <class Real>
HostArray<Real**> next_states(Model<Real>& model, std::vector<AttentionState<Real>>& states, const Sequence& piece,
                              const Tokens& tokens, Profile* profile = nullptr) {
  const DeviceTokens device(tokens);
  const Array<Real***> hidden = model.forward(Execution(), piece, device.ids, device.mask, profile, &states);
  const std::int64_t width = model.config().hidden_dim;
  const HostArray<Real**> last("bsbr::generate::last_states", piece.batch(), width);
  const int owner = last_rank_of(piece);
  if (piece.rank() == owner) {
    const Array<Real**> rows("bsbr::generate::last_states", piece.batch(), width);
    Kokkos::deep_copy(rows, Kokkos::subview(hidden, Kokkos::ALL, piece.local_tokens() - 1, Kokkos::ALL));
    Kokkos::deep_copy(last, rows);
  }
  parallel::broadcast(last.data(), static_cast<std::int64_t>(last.size() * sizeof(Real)), piece.comm(), owner);
  return last;
}

/// What chooses tokens, on rank 0.
template <class Real>
struct Chooser {
  LogitLayer<Real> head;
  Sampler sampler;

  /// The next id of each sequence.
  std::vector<std::int32_t> choose(const HostArray<Real**>& hidden_states, std::int64_t position) {
    const Array<Real**> rows = Kokkos::create_mirror_view_and_copy(Memory(), hidden_states);
    const auto logits = head.logits(Execution(), rows);
    std::vector<std::int32_t> ids;
    for (std::size_t row = 0; row < logits.extent(0); ++row) {
      const std::span<const Real> of_row(&logits(row, 0), logits.extent(1));
      ids.push_back(sampler.choose(of_row, position, static_cast<std::int64_t>(row)));
    }
    return ids;
  }
};

/// The ids at a position, on all ranks. Collective. Throws DivergenceError.
template <class Real>
std::vector<std::int32_t> choose_tokens(MPI_Comm comm, std::optional<Chooser<Real>>& chooser,
                                        const HostArray<Real**>& states, std::int64_t position) {
  std::vector<std::int32_t> ids(states.extent(0), no_target);
  std::string problem;
  parallel::agree(comm, [&] {
    if (!chooser) return;
    try {
      ids = chooser->choose(states, position);
    } catch (const NonfiniteLogitError& error) {
      problem = "token " + std::to_string(position) + ": " + error.what();
    }
  });
  parallel::broadcast(ids.data(), static_cast<std::int64_t>(ids.size() * sizeof(std::int32_t)), comm);
  if (ids.front() != no_target) return ids;
  parallel::broadcast(problem, comm);
  throw DivergenceError(problem, "numbers of the model overflow: --precision double may have room for them");
}

// ---- The run --------------------------------------------------------------------------------------------------------

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// What a run has, once it is known to be possible.
struct Job {
  const Runtime& runtime;
  const GenerateOptions& options;
  Prompt prompt;
  Sequence prefill;  ///< of the prompts

  /// Nobody but the launcher looks at the stdout of a rank, whatever that is.
  bool prints_on_terminal() const { return runtime.launcher() == LauncherKind::none && isatty(STDOUT_FILENO) == 1; }
};

/// Whether a signal asks a rank to stop, and which; empty: none. Collective.
std::string reason_to_stop(MPI_Comm comm) {
  const char* mine = StopSignals::received();
  const bool stops = parallel::all_reduce(std::int32_t{mine != nullptr}, MPI_MAX, comm) != 0;
  if (!stops) return "";
  return mine != nullptr ? mine : "a signal to another rank";
}

/// Draws tokens and feeds them to the model, until there are enough or a signal comes.
template <class Real>
void decode(const Job& job, Model<Real>& model, std::vector<AttentionState<Real>>& kept, HostArray<Real**> states,
            GenerationSummary& summary) {
  const MPI_Comm comm = job.runtime.comm();
  const GenerateOptions& options = job.options;
  std::optional<Chooser<Real>> chooser;
  std::optional<TokenOutput> output;
  parallel::agree(comm, [&] {
    if (!job.runtime.is_first()) return;
    chooser.emplace(Chooser<Real>{LogitLayer<Real>(model.weights()), Sampler(options.sampling)});
    output.emplace(TokenOutputOptions{.path = options.output,
                                      .bytes = model.config().vocab_size == bytes_there_are,
                                      .ends_line = job.prints_on_terminal(),
                                      .batch = job.prefill.batch()});
  });
  const StopSignals signals{SIGINT, SIGTERM};
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t position = job.prefill.end();; ++position) {
    const std::vector<std::int32_t> ids = choose_tokens(comm, chooser, states, position);
    parallel::agree(comm, [&] {
      if (output) output->add(ids);
    });
    if (++summary.tokens == options.tokens) break;
    summary.stopped_by = reason_to_stop(comm);
    if (!summary.stopped_by.empty()) break;
    const Sequence piece(comm, job.prefill.batch(), 1, job.prefill.chunk_size(), position);
    states = next_states(model, kept, piece, next_tokens_of(ids, piece));
  }
  summary.decode_seconds = seconds_since(start);
  parallel::agree(comm, [&] {
    if (output) output->finish();
  });
}

template <class Real>
void compute(const Job& job, GenerationSummary& summary) {
  const GenerateOptions& options = job.options;
  std::optional<Progress> progress(std::in_place, options.progress, job.runtime.is_first(), "bsbr_generate");
  progress->step("reading " + options.model);
  Model<Real> model = read_model<Real>(options.model, job.runtime.comm());
  progress->step("reading " + options.input_name());
  const Tokens tokens = read_prompts(options, job.prompt, job.prefill, model.config().vocab_size);
  Profile profile;
  profile.progress = progress->forward("prompt, ", 0, 1);
  std::vector<AttentionState<Real>> kept;
  const auto start = std::chrono::steady_clock::now();
  const HostArray<Real**> states = next_states(model, kept, job.prefill, tokens, &profile);
  summary.prefill_seconds = seconds_since(start);
  if (options.writes_stdout())
    progress.reset();  // its line would stand among the text
  else
    progress->step("generating");
  decode(job, model, kept, states, summary);
}

template <class Real>
Footprint predict(const ModelConfig& config, const Job& job) {
  Footprint footprint = predict_footprint<Real>(config, job.prefill, {.mask = job.prompt.shape.has_mask});
  if (kernels::host_memory && job.runtime.is_first())
    footprint.added += logit_layer_bytes<Real>(config, job.prefill.batch());
  return footprint;
}

/// Whether it ended early.
template <class Real>
bool generate(const Job& job, const ModelConfig& config) {
  const GenerateOptions& options = job.options;
  const MPI_Comm comm = job.runtime.comm();
  Footprint footprint;
  parallel::agree(comm, [&] { footprint = predict<Real>(config, job); });
  require_memory(comm, footprint.added, "run on more ranks or nodes, or with a shorter prompt or a smaller --batch");
  GenerationSummary summary{.config = config,
                            .precision = options.precision,
                            .sampling = options.sampling,
                            .environment = find_environment(job.runtime),
                            .model = options.model,
                            .input = options.input_name(),
                            .output = options.writes_stdout() ? "stdout" : options.output,
                            .batch = job.prefill.batch(),
                            .prompt_tokens = job.prefill.length()};
  summary.predicted_memory_bytes = largest(comm, footprint.total());
  compute<Real>(job, summary);
  summary.peak_memory_bytes = largest(comm, peak_resident_bytes());
  report(job.runtime, options, summary);
  return !summary.stopped_by.empty();
}

void require_causal(const ModelConfig& config) {
  if (!has_field(config.architecture, "causality") || config.causality == Causality::causal) return;
  throw ConfigError("causality = " + std::string(to_string(config.causality)) +
                        ": earlier tokens see later ones, and a token cannot be drawn before these are there",
                    "only a model with causality = causal goes on with a text");
}

ExitCode run(const Runtime& runtime, const GenerateOptions& options) {
  check_outputs(runtime, options, {options.writes_stdout() ? "" : options.output});
  bool ended_early = false;
  with_model(runtime, options, [&](const ModelConfig& config, const std::string& stdin_path) {
    require_head(config);
    require_causal(config);
    const Prompt prompt = find_prompt(options, stdin_path, config.vocab_size, runtime.comm());
    const Sequence prefill(runtime.comm(), choose_batch(options, prompt), prompt.shape.length, config.chunk_size);
    const Job job{runtime, options, prompt, prefill};
    ended_early =
        options.precision == Precision::float32 ? generate<float>(job, config) : generate<double>(job, config);
  });
  return ended_early ? stopped_early : done;
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_generate", argc, argv, bsbr::apps::parse_generate_options, bsbr::apps::run);
}
