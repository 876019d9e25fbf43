// bsbr_forward: one forward pass of a model over a batch of token sequences, on all ranks.
#include <Kokkos_Core.hpp>
#include <algorithm>

#include "bsbr/io.hpp"
#include "bsbr/model.hpp"
#include "bsbr/nonfinite.hpp"
#include "bsbr/parallel.hpp"
#include "harness/job/runtime.hpp"
#include "harness/random_tokens.hpp"
#include "harness/verify.hpp"
#include "measure/measurement.hpp"
#include "memory/footprint.hpp"
#include "programs/forward_options.hpp"
#include "programs/model_run.hpp"
#include "progress/progress.hpp"
#include "report/summary.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// The shape of the tokens, cut to --max-tokens.
TokenShape find_shape(const ForwardOptions& options, const std::string& stdin_path, std::int64_t vocab_size,
                      MPI_Comm comm) {
  TokenShape shape{options.batch, options.random_tokens, false};
  if (!options.input.empty()) shape = find_input_shape(options, stdin_path, vocab_size, comm);
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
  weights.set_rounding(rounding_of(options.precision));
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
    Attributes attributes = result_attributes(options, summary);
    if (summary.seed) attributes["seed"] = *summary.seed;
    write_result<Real>(options.output, summary.config, attributes, sequence, states);
  }
}

template <class Real>
void forward(const Runtime& runtime, const ForwardOptions& options, const std::string& stdin_path,
             const ModelConfig& config) {
  const TokenShape shape = find_shape(options, stdin_path, config.vocab_size, runtime.comm());
  const Sequence sequence(runtime.comm(), shape.batch, shape.length, config.chunk_size);
  if (options.verify) require_verifiable(config, shape.batch, shape.length);
  Footprint footprint;
  const Extras extras{.mask = shape.has_mask,
                      .result = !options.output.empty(),
                      .verify = options.verify,
                      .rounding = rounding_of(options.precision)};
  parallel::agree(runtime.comm(), [&] { footprint = predict_footprint<Real>(config, sequence, extras); });

  Summary summary = begin_summary(runtime, options, config, shape);
  summary.output = options.output;
  if (options.input.empty()) summary.seed = options.seed;
  run_and_report(runtime, options, sequence, footprint, summary,
                 [&] { compute<Real>(runtime, options, stdin_path, sequence, summary); });
}

void run(const Runtime& runtime, const ForwardOptions& options) {
  check_outputs(runtime, options, {options.output});
  with_model(runtime, options, [&](const ModelConfig& config, const std::string& stdin_path) {
    if (options.precision != Precision::float64)
      forward<float>(runtime, options, stdin_path, config);
    else
      forward<double>(runtime, options, stdin_path, config);
  });
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_forward", argc, argv, bsbr::apps::parse_forward_options, bsbr::apps::run);
}
