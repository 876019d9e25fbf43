#include "programs/model_run.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>

#include "architectures/traits.hpp"
#include "bsbr/parallel.hpp"
#include "environment/environment.hpp"
#include "files/spooled_stdin.hpp"
#include "harness/job/failure.hpp"
#include "harness/memory.hpp"
#include "measure/measurement.hpp"
#include "report/provenance.hpp"
#include "report/report.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// The model's configuration with what the command line puts in its place.
ModelConfig choose_config(const ModelOptions& options, MPI_Comm comm) {
  ModelConfig config = read_config(options.model, comm);
  if (options.chunk_size) config.chunk_size = *options.chunk_size;
  if (options.causality && !has_field(config.architecture, "causality")) {
    throw UsageError("--causality: only for bsbr, and " + options.model + " is a model of " +
                     std::string(to_string(config.architecture)));
  }
  if (options.causality) config.causality = *options.causality;
  return config;
}

/// Every rank's part, on all ranks.
std::vector<Part> gather_parts(const Sequence& sequence, std::int64_t memory_bytes) {
  const Part mine{sequence.first_chunk(), sequence.local_chunks(), sequence.first_token(), sequence.local_tokens(),
                  memory_bytes};
  return parallel::all_gather(mine, sequence.comm());
}

}  // namespace

void check_outputs(const Runtime& runtime, const ModelOptions& options, const std::vector<std::string>& outputs) {
  for (const std::string& output : outputs) {
    if (!output.empty()) check_output_path(output, runtime.comm());
  }
  if (!options.json.empty() && options.json != "-") check_output_path(options.json, runtime.comm());
}

void with_model(const Runtime& runtime, const ModelOptions& options,
                const std::function<void(const ModelConfig&, const std::string&)>& work) {
  std::optional<SpooledStdin> input;
  try {
    const ModelConfig config = choose_config(options, runtime.comm());
    if (options.reads_stdin()) input.emplace(runtime.comm());
    work(config, input ? input->path() : "");
  } catch (const UsageError&) {
    throw;
  } catch (const ConfigError& error) {  // the model's, as nothing else gives a configuration here
    throw FileError(options.model + ": " + error.what(), error.hint());
  } catch (const FileError& error) {
    if (!input) throw;
    throw FileError(input->renamed(error.what()), error.hint());
  }
}

TokenSource source_of(const ModelOptions& options, const std::string& stdin_path) {
  TokenSource source = options.source();
  if (options.reads_stdin()) source.path = stdin_path;
  return source;
}

TokenShape find_input_shape(const ModelOptions& options, const std::string& stdin_path, std::int64_t vocab_size,
                            MPI_Comm comm) {
  const TokenSource source = source_of(options, stdin_path);
  const TokenShape shape = read_token_shape(source, comm);
  if (vocab_size > 256 || options.dry_run) require_byte_vocabulary(source, shape, vocab_size);
  return shape;
}

DeviceTokens::DeviceTokens(const Tokens& tokens) : ids(Kokkos::create_mirror_view_and_copy(Memory(), tokens.ids)) {
  if (tokens.mask) mask = Kokkos::create_mirror_view_and_copy(Memory(), *tokens.mask);
}

Summary begin_summary(const Runtime& runtime, const ModelOptions& options, const ModelConfig& config,
                      const TokenShape& shape) {
  Summary summary;
  summary.config = config;
  summary.precision = options.precision;
  summary.batch = shape.batch;
  summary.length = shape.length;
  summary.environment = find_environment(runtime, options.precision);
  summary.model = options.model;
  summary.input = options.input_name();
  summary.stored = {options.input.empty() ? "" : options.source().path, shape};
  return summary;
}

void run_and_report(const Runtime& runtime, const ModelOptions& options, const Sequence& sequence,
                    const Footprint& footprint, Summary& summary, const std::function<void()>& compute) {
  summary.predicted_memory_bytes = largest(runtime.comm(), footprint.total());
  if (options.dry_run) {
    summary.parts = gather_parts(sequence, footprint.total());
    summary.available_bytes = std::min(available_on_node(), available_to_process());
  } else {
    require_memory(runtime.comm(), footprint.added,
                   "run on more ranks or nodes, or with fewer tokens; --dry-run tells what would be needed");
    compute();
    summary.peak_memory_bytes = largest(runtime.comm(), peak_resident_bytes());
  }
  report(runtime, options, summary);
  if (summary.verification) require_agreement(*summary.verification, options.precision);
  if (summary.gradient_verification) require_agreement(*summary.gradient_verification, options.precision);
}

Attributes result_attributes(const ModelOptions& options, const Summary& summary) {
  Attributes attributes = provenance(summary.environment, options);
  for (const auto& [name, value] : fields_of(summary.stored)) attributes[name] = value;
  if (summary.windows) attributes["stride"] = summary.windows->stride;
  if (const auto& gradients = summary.nonfinite_gradients) {
    attributes["nonfinite_gradients"] = gradients->count;
    if (gradients->count > 0) attributes["first_nonfinite_gradient"] = gradients->first;
    return attributes;
  }
  attributes["nonfinite_states"] = summary.nonfinite.count;
  if (const auto& first = summary.nonfinite.first)
    attributes["first_nonfinite"] = std::vector<std::int64_t>{first->batch, first->token};
  return attributes;
}

}  // namespace bsbr::apps
