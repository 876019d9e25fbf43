// bsbr_generate: continues token sequences with a model. All ranks read the prompt, rank 0 draws token by token.
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <chrono>
#include <exception>
#include <span>
#include <utility>

#include "architectures/traits.hpp"
#include "bsbr/io.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/model.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/sampling.hpp"
#include "bsbr/stream.hpp"
#include "bsbr/stream_file.hpp"
#include "generation/meetings.hpp"
#include "generation/token_output.hpp"
#include "harness/format.hpp"
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
#include "report/provenance.hpp"
#include "report/report.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr std::int64_t bytes_there_are = 256;

// ---- The prompt -----------------------------------------------------------------------------------------------------

/// What is continued.
struct Prompt {
  TokenSource source;  ///< without a path: the text of the command line
  TokenShape shape;    ///< of no tokens: a saved stream goes on without a prompt
};

Prompt find_prompt(const GenerateOptions& options, const std::string& stdin_path, std::int64_t vocab_size,
                   MPI_Comm comm) {
  if (!options.has_prompt()) return {};
  if (!options.prompt) return {source_of(options, stdin_path), find_input_shape(options, stdin_path, vocab_size, comm)};
  if (vocab_size != bytes_there_are) {
    throw UsageError("--prompt is bytes, and the model's vocab_size is " + std::to_string(vocab_size),
                     "make token ids of the text, and give them as --input");
  }
  return {{}, {.batch = 1, .length = static_cast<std::int64_t>(options.prompt->size())}};
}

/// Throws unless a saved stream can go on with this model and prompt. Collective.
StreamInfo find_stream(const GenerateOptions& options, const ModelConfig& config, const Prompt& prompt, MPI_Comm comm) {
  if (options.state_in.empty()) return {};
  const StreamInfo info = read_stream_info(options.state_in, comm);
  require_stream_of(options.state_in, info, config, options.precision);
  if (info.batch == 0) throw FileError(options.state_in + ": has no sequence to go on with");
  if (info.tokens == 0 && prompt.shape.length == 0)
    throw FileError(options.state_in + ": its stream has read no token, and there is no prompt to go on from");
  if (prompt.shape.length == 0 || prompt.shape.batch == 1 || prompt.shape.batch == info.batch) return info;
  throw FileError(options.state_in + ": is of " + show_several(info.batch, "sequence") + ", the input has " +
                  show_count(prompt.shape.batch));
}

/// So many sequences: those of a saved stream, the rows of the input, or one row several times.
std::int64_t choose_batch(const GenerateOptions& options, const Prompt& prompt, const StreamInfo& saved) {
  if (!options.state_in.empty()) return saved.batch;
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

/// What comes behind padding has nothing to go on from.
void require_real_end(const Prompt& prompt, const Tokens& tokens, const Sequence& sequence) {
  parallel::agree(sequence.comm(), [&] {
    if (!tokens.mask || sequence.rank() != sequence.chunks().part_of(sequence.num_chunks() - 1)) return;
    for (std::int64_t row = 0; row < sequence.batch(); ++row) {
      if ((*tokens.mask)(row, sequence.local_tokens() - 1) == 1) continue;
      throw FileError(prompt.source.path + ": the last token of row " + std::to_string(row) + " is padding",
                      "prompts are padded on the left");
    }
  });
}

/// The same of a saved stream that goes on without a prompt.
void require_real_end(const std::string& path, const std::vector<std::uint8_t>& last_real) {
  const auto padding = std::find(last_real.begin(), last_real.end(), 0);
  if (padding == last_real.end()) return;
  throw FileError(path + ": the last token of sequence " + std::to_string(padding - last_real.begin()) + " is padding",
                  "a prompt may follow it");
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
  const Sequence of_one(sequence.comm(), 1, sequence.length(), sequence.chunk_size(), sequence.origin());
  Tokens tokens = options.prompt ? tokens_of(*options.prompt, of_one) : read_tokens(prompt.source, of_one, vocab_size);
  require_real_end(prompt, tokens, of_one);
  tokens.ids = repeated(tokens.ids, sequence.batch());
  if (tokens.mask) tokens.mask = repeated(*tokens.mask, sequence.batch());
  return tokens;
}

// ---- From tokens to tokens ------------------------------------------------------------------------------------------

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// What a run has, once it is known to be possible.
struct Job {
  const Runtime& runtime;
  const GenerateOptions& options;
  Prompt prompt;
  Sequence prefill;  ///< of the prompts, behind what a saved stream has read

  /// Nobody but the launcher looks at the stdout of a rank, whatever that is.
  bool prints_on_terminal() const { return runtime.launcher() == LauncherKind::none && isatty(STDOUT_FILENO) == 1; }
};

/// What chooses tokens: one process.
template <class Real>
struct Chooser {
  LogitLayer<Real> head;
  Sampler sampler;

  /// The next id of each sequence. Throws NonfiniteLogitError.
  std::vector<std::int32_t> choose(const Stream<Real>& stream) {
    const auto logits = head.logits(Execution(), stream.last_states());
    std::vector<std::int32_t> ids;
    for (std::size_t row = 0; row < logits.extent(0); ++row) {
      const std::span<const Real> of_row(&logits(row, 0), logits.extent(1));
      ids.push_back(sampler.choose(of_row, stream.tokens(), static_cast<std::int64_t>(row)));
    }
    return ids;
  }
};

/// Feeds a token of each sequence, to a stream of one process.
template <class Real>
void feed(Model<Real>& model, Stream<Real>& stream, const std::vector<std::int32_t>& ids) {
  const HostArray<const std::int32_t**> next(ids.data(), ids.size(), 1);
  stream.feed(Execution(), model, stream.next(1), Kokkos::create_mirror_view_and_copy(Memory(), next));
}

/// Draws tokens and feeds them to the model, until there are enough or the ranks have to stop.
template <class Real>
void draw_tokens(const Job& job, Model<Real>& model, Stream<Real>& stream, Meetings& meetings, TokenOutput& output,
                 GenerationSummary& summary) {
  const GenerateOptions& options = job.options;
  const StopSignals signals{SIGINT, SIGTERM};
  Chooser<Real> chooser{LogitLayer<Real>(model.weights()), Sampler(options.sampling)};
  stream.reserve(stream.tokens() + options.tokens);
  const auto start = std::chrono::steady_clock::now();
  while (summary.tokens < options.tokens) {
    summary.stopped_by = meetings.reason_to_stop();
    if (!summary.stopped_by.empty()) break;
    const std::vector<std::int32_t> ids = chooser.choose(stream);
    output.add(ids);
    if (output.is_closed()) summary.stopped_by = "SIGPIPE";
    const bool is_last = ++summary.tokens == options.tokens || output.is_closed();
    if (!is_last || !options.state_out.empty()) feed(model, stream, ids);
    if (is_last) break;
  }
  summary.decode_seconds = seconds_since(start);
  summary.stream_bytes = stream.bytes();
}

template <class Real>
void save(const Job& job, const Model<Real>& model, const Stream<Real>& stream, const GenerationSummary& summary) {
  if (job.options.state_out.empty()) return;
  Attributes attributes = provenance(summary.environment, job.options);
  attributes["input"] = job.options.input_name();
  write_stream(job.options.state_out, stream, model.weights(), attributes);
}

/// On rank 0: generates, writes what there is even if that fails, and saves the stream if it does not.
template <class Real>
void decode(const Job& job, Model<Real>& model, Stream<Real>& stream, Meetings& meetings, GenerationSummary& summary) {
  TokenOutput output({.path = job.options.output,
                      .bytes = model.config().vocab_size == bytes_there_are,
                      .on_terminal = job.prints_on_terminal(),
                      .batch = stream.batch()});
  std::exception_ptr failure;
  const auto attempt = [&](const auto& step) {
    try {
      step();
    } catch (...) {
      if (!failure) failure = std::current_exception();  // the first one is told
    }
  };
  attempt([&] { draw_tokens(job, model, stream, meetings, output, summary); });
  const bool has_drawn = !failure;
  attempt([&] { output.finish(); });
  if (output.is_closed()) summary.stopped_by = "SIGPIPE";
  if (has_drawn) attempt([&] { save(job, model, stream, summary); });
  if (failure) std::rethrow_exception(failure);
}

/// What the user can do about a logit that is not finite.
std::string hint_of_overflow(Precision precision) {
  return precision == Precision::float64 ? "weights that are NaN or infinite, or too large, do this"
                                         : "if numbers overflow, --precision double may have room for them";
}

/// decode() on rank 0, while the others wait. Collective. Throws what it throws on all ranks, but DivergenceError
/// rather than NonfiniteLogitError.
template <class Real>
void decode_on_first(const Job& job, Model<Real>& model, std::optional<Stream<Real>>& stream,
                     GenerationSummary& summary) {
  const MPI_Comm comm = job.runtime.comm();
  Meetings meetings(comm);
  std::exception_ptr failure;
  std::string problem;
  if (stream) {
    try {
      decode(job, model, *stream, meetings, summary);
    } catch (const NonfiniteLogitError& error) {
      problem = "token " + std::to_string(stream->tokens()) + ": " + error.what();
    } catch (...) {
      failure = std::current_exception();
    }
    meetings.end();
  } else {
    const StopSignals signals{SIGINT, SIGTERM};
    meetings.wait_for_end();
  }
  parallel::agree(comm, [&] {
    if (failure) std::rethrow_exception(failure);
  });
  parallel::broadcast(problem, comm);
  if (!problem.empty()) throw DivergenceError(problem, hint_of_overflow(job.options.precision));
  parallel::broadcast(summary.stopped_by, comm);
}

// ---- The run --------------------------------------------------------------------------------------------------------

/// The stream behind the prompt. Collective.
template <class Real>
Stream<Real> prefill(const Job& job, Model<Real>& model, Progress& progress, GenerationSummary& summary) {
  const GenerateOptions& options = job.options;
  const MPI_Comm comm = job.runtime.comm();
  if (!options.state_in.empty()) progress.step("reading " + options.state_in);
  Stream<Real> stream = options.state_in.empty()
                            ? Stream<Real>(model.config(), comm, job.prefill.batch(), model.weights().rounding())
                            : read_stream(options.state_in, model.weights(), comm);
  if (job.prefill.length() == 0) {
    require_real_end(options.state_in, stream.last_real());
    return stream;
  }
  progress.step("reading " + options.input_name());
  const DeviceTokens tokens(read_prompts(options, job.prompt, job.prefill, model.config().vocab_size));
  Profile profile;
  profile.progress = progress.forward("prompt, ", 0, 1);
  const auto start = std::chrono::steady_clock::now();
  stream.feed(Execution(), model, job.prefill, tokens.ids, tokens.mask, &profile);
  model.release_memory();  // which the first token would have to do
  summary.prefill_seconds = seconds_since(start);
  return stream;
}

template <class Real>
void compute(const Job& job, GenerationSummary& summary) {
  const GenerateOptions& options = job.options;
  std::optional<Progress> progress(std::in_place, options.progress, job.runtime.is_first(), "bsbr_generate");
  progress->step("reading " + options.model);
  Weights<Real> weights = read_weights<Real>(options.model, job.runtime.comm());
  weights.set_rounding(rounding_of(options.precision));
  Model<Real> model(weights);
  std::optional<Stream<Real>> stream = gather_on_first(Execution(), prefill(job, model, *progress, summary));
  if (options.writes_stdout())
    progress.reset();  // its line would stand among the text
  else
    progress->step("generating");
  decode_on_first(job, model, stream, summary);
}

/// Of prompts, or of one token of each sequence: the last one, which one rank generates.
template <class Real>
Footprint predict_forward(const ModelConfig& config, const Job& job, const Sequence& tokens) {
  return predict_footprint<Real>(config, tokens,
                                 {.mask = job.prompt.shape.has_mask,
                                  .result = !job.options.state_out.empty(),
                                  .rounding = rounding_of(job.options.precision)});
}

template <class Real>
Footprint predict(const ModelConfig& config, const Job& job, const Sequence& last_token) {
  const Sequence& prompts = job.prefill;
  Footprint prefill = predict_forward<Real>(config, job, prompts);
  if (!kernels::host_memory) return prefill;
  const std::int64_t held = stream_bytes<Real>(config, prompts.batch(), prompts.end(), prompts.ranks(), prompts.rank(),
                                               rounding_of(job.options.precision));
  prefill.added += held;
  if (!job.runtime.is_first()) return prefill;
  Footprint decode = predict_forward<Real>(config, job, last_token);
  const std::int64_t gathered =
      stream_bytes<Real>(config, prompts.batch(), last_token.end(), 1, 0, rounding_of(job.options.precision));
  decode.added += (prompts.ranks() > 1 ? held : 0) + gathered +
                  gathered / config.num_layers +  // one layer's grow in new arrays
                  logit_layer_bytes<Real>(config, prompts.batch(), rounding_of(job.options.precision));
  return decode.added > prefill.added ? decode : prefill;
}

/// Whether it ended early.
template <class Real>
bool generate(const Job& job, const ModelConfig& config) {
  const GenerateOptions& options = job.options;
  const MPI_Comm comm = job.runtime.comm();
  const Sequence last_token(MPI_COMM_SELF, job.prefill.batch(), 1, config.chunk_size,
                            job.prefill.end() + options.tokens - 1);
  Footprint footprint;
  parallel::agree(comm, [&] { footprint = predict<Real>(config, job, last_token); });
  require_memory(comm, footprint.added,
                 "run on more ranks or nodes, with a shorter prompt, a smaller --batch or fewer --tokens");
  GenerationSummary summary{.config = config,
                            .precision = options.precision,
                            .sampling = options.sampling,
                            .environment = find_environment(job.runtime, options.precision),
                            .model = options.model,
                            .input = options.input_name(),
                            .output = options.writes_stdout() ? "stdout" : options.output,
                            .state_in = options.state_in,
                            .state_out = options.state_out,
                            .batch = job.prefill.batch(),
                            .prompt_tokens = job.prefill.length(),
                            .first_token = job.prefill.origin()};
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
  check_outputs(runtime, options, {options.writes_stdout() ? "" : options.output, options.state_out});
  bool ended_early = false;
  with_model(runtime, options, [&](const ModelConfig& config, const std::string& stdin_path) {
    require_head(config);
    require_causal(config);
    const Prompt prompt = find_prompt(options, stdin_path, config.vocab_size, runtime.comm());
    const StreamInfo saved = find_stream(options, config, prompt, runtime.comm());
    const Sequence prefill(runtime.comm(), choose_batch(options, prompt, saved), prompt.shape.length, config.chunk_size,
                           saved.tokens);
    const Job job{runtime, options, prompt, prefill};
    ended_early =
        options.precision == Precision::float64 ? generate<double>(job, config) : generate<float>(job, config);
  });
  return ended_early ? stopped_early : done;
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_generate", argc, argv, bsbr::apps::parse_generate_options, bsbr::apps::run);
}
