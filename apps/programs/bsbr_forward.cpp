// bsbr_forward: one forward pass of a model over a batch of token sequences, on all ranks.
#include <Kokkos_Core.hpp>
#include <nlohmann/json.hpp>

#include "architectures/traits.hpp"
#include "bsbr/io.hpp"
#include "bsbr/model.hpp"
#include "bsbr/nonfinite.hpp"
#include "bsbr/parallel.hpp"
#include "environment/environment.hpp"
#include "files/spooled_stdin.hpp"
#include "harness/job/failure.hpp"
#include "harness/job/runtime.hpp"
#include "harness/memory.hpp"
#include "harness/random_tokens.hpp"
#include "harness/verify.hpp"
#include "measure/measurement.hpp"
#include "memory/footprint.hpp"
#include "programs/forward_options.hpp"
#include "progress/progress.hpp"
#include "report/json_output.hpp"
#include "report/provenance.hpp"
#include "report/summary.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// The model's configuration with what the command line puts in its place.
ModelConfig choose_config(const ForwardOptions& options, MPI_Comm comm) {
  ModelConfig config = read_config(options.model, comm);
  if (options.chunk_size) config.chunk_size = *options.chunk_size;
  if (options.causality && !has_field(config.architecture, "causality")) {
    throw UsageError("--causality: only for bsbr, and " + options.model + " is a model of " +
                     std::string(to_string(config.architecture)));
  }
  if (options.causality) config.causality = *options.causality;
  return config;
}

/// `stdin_path`: of what has been read from stdin.
TokenSource source_of(const ForwardOptions& options, const std::string& stdin_path) {
  TokenSource source = options.source();
  if (options.reads_stdin()) source.path = stdin_path;
  return source;
}

/// The shape of the tokens, cut to --max-tokens. Bytes that this model has no use for are refused here, before any
/// work; not those beyond a smaller vocabulary: of them read_tokens() names one.
TokenShape find_shape(const ForwardOptions& options, const std::string& stdin_path, std::int64_t vocab_size,
                      MPI_Comm comm) {
  TokenShape shape{options.batch, options.random_tokens, false};
  if (!options.input.empty()) {
    const TokenSource source = source_of(options, stdin_path);
    shape = read_token_shape(source, comm);
    if (vocab_size > 256 || options.dry_run) require_byte_vocabulary(source, shape, vocab_size);
  }
  shape.length = std::min(shape.length, options.max_tokens.value_or(shape.length));
  return shape;
}

Tokens find_tokens(const ForwardOptions& options, const std::string& stdin_path, const Sequence& sequence,
                   std::int64_t vocab_size) {
  if (!options.input.empty()) return read_tokens(source_of(options, stdin_path), sequence, vocab_size);
  Tokens tokens;
  parallel::agree(sequence.comm(),
                  [&] { tokens.ids = random_tokens(sequence, vocab_size, static_cast<std::uint64_t>(options.seed)); });
  return tokens;
}

/// Every rank's part, on all ranks.
std::vector<Part> gather_parts(const Sequence& sequence, std::int64_t memory_bytes) {
  const Part mine{sequence.first_chunk(), sequence.local_chunks(), sequence.first_token(), sequence.local_tokens(),
                  memory_bytes};
  return parallel::all_gather(mine, sequence.comm());
}

/// Text on stdout or JSON, as was asked for.
void report(const Runtime& runtime, const ForwardOptions& options, const Summary& summary) {
  if (!options.json.empty() && options.json != "-") {
    parallel::agree(runtime.comm(), [&] {
      if (runtime.is_first()) write_json(options.json, to_json(summary));
    });
  }
  if (options.json == "-") runtime.print(dump(to_json(summary)));
  if (options.prints_text()) runtime.print(to_text(summary));
}

/// Ids and mask where the kernels run.
struct DeviceTokens {
  explicit DeviceTokens(const Tokens& tokens) : ids(Kokkos::create_mirror_view_and_copy(Memory(), tokens.ids)) {
    if (tokens.mask) mask = Kokkos::create_mirror_view_and_copy(Memory(), *tokens.mask);
  }
  Array<const std::int32_t**> ids;
  std::optional<Array<const std::uint8_t**>> mask;
};

/// The run itself, once it is known to be possible.
template <class Real>
void compute(const Runtime& runtime, const ForwardOptions& options, const std::string& stdin_path,
             const Sequence& sequence, Summary& summary) {
  Progress progress(options.progress, runtime.is_first(), "bsbr_forward");
  progress.step(options.input.empty() ? "drawing random tokens" : "reading " + options.input_name());
  const Tokens tokens = find_tokens(options, stdin_path, sequence, summary.config.vocab_size);
  progress.step("reading " + options.model);
  Weights<Real> weights = read_weights<Real>(options.model, runtime.comm());
  weights.set_config(summary.config);
  Model<Real> model(weights);

  const Execution execution;
  std::optional<DeviceTokens> device;
  parallel::agree(runtime.comm(), [&] { device.emplace(tokens); });
  Array<Real***> states;
  summary.measurement = measure(runtime.comm(), options.repeat, [&](std::int64_t number, Profile& profile) {
    profile.progress = progress.forward("", number, options.repeat);
    states = {};  // those of the forward before: memory for one is enough
    states = model.forward(execution, sequence, device->ids, device->mask, &profile);
    execution.fence();
  });
  summary.nonfinite = find_nonfinite<Real>(execution, sequence, states);
  if (options.verify) {
    progress.step("comparing with the reference");
    summary.verification = verify<Real>(weights, sequence, tokens, states);
  }
  if (!options.output.empty()) {
    progress.step("writing " + options.output);
    Attributes attributes = provenance(summary.environment, options);
    for (const auto& [name, value] : fields_of(summary.stored)) attributes[name] = value;
    attributes["nonfinite_states"] = summary.nonfinite.count;
    if (const auto& first = summary.nonfinite.first)
      attributes["first_nonfinite"] = std::vector<std::int64_t>{first->batch, first->token};
    write_result<Real>(options.output, summary.config, attributes, sequence, states);
  }
}

template <class Real>
void forward(const Runtime& runtime, const ForwardOptions& options, const std::string& stdin_path,
             const ModelConfig& config) {
  const TokenShape shape = find_shape(options, stdin_path, config.vocab_size, runtime.comm());
  const Sequence sequence(runtime.comm(), shape.batch, shape.length, config.chunk_size);
  if (options.verify) require_verifiable(config, sequence);
  Footprint footprint;
  const Extras extras{shape.has_mask, !options.output.empty(), options.verify};
  parallel::agree(runtime.comm(), [&] { footprint = predict_footprint<Real>(config, sequence, extras); });

  Summary summary;
  summary.config = config;
  summary.precision = options.precision;
  summary.batch = shape.batch;
  summary.length = shape.length;
  summary.environment = find_environment(runtime);
  summary.predicted_memory_bytes = largest(runtime.comm(), footprint.total());
  summary.model = options.model;
  summary.input = options.input_name();
  summary.stored = {options.input.empty() ? "" : options.source().path, shape};
  summary.output = options.output;
  if (options.input.empty()) summary.seed = options.seed;
  if (options.dry_run) {
    summary.parts = gather_parts(sequence, footprint.total());
    summary.available_bytes = std::min(available_on_node(), available_to_process());
  } else {
    require_memory(runtime.comm(), footprint.added,
                   "run on more ranks or nodes, or with fewer tokens; --dry-run tells what would be needed");
    compute<Real>(runtime, options, stdin_path, sequence, summary);
    summary.peak_memory_bytes = largest(runtime.comm(), peak_resident_bytes());
  }
  report(runtime, options, summary);
  if (summary.verification) require_agreement(*summary.verification, options.precision);
}

void run(const Runtime& runtime, const ForwardOptions& options) {
  if (!options.output.empty()) check_output_path(options.output, runtime.comm());
  if (!options.json.empty() && options.json != "-") check_output_path(options.json, runtime.comm());
  std::optional<SpooledStdin> input;
  try {
    const ModelConfig config = choose_config(options, runtime.comm());
    if (options.reads_stdin()) input.emplace(runtime.comm());
    const std::string stdin_path = input ? input->path() : "";
    if (options.precision == Precision::float32)
      forward<float>(runtime, options, stdin_path, config);
    else
      forward<double>(runtime, options, stdin_path, config);
  } catch (const UsageError&) {
    throw;
  } catch (const ConfigError& error) {  // the model's, as nothing else gives a configuration here
    throw FileError(options.model + ": " + error.what(), error.hint());
  } catch (const FileError& error) {
    if (!input) throw;
    throw FileError(input->renamed(error.what()), error.hint());
  }
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_forward", argc, argv, bsbr::apps::parse_forward_options, bsbr::apps::run);
}
