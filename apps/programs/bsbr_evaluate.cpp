// bsbr_evaluate: how well a model predicts the next token of sequences, on all ranks.
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "bsbr/io.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/model.hpp"
#include "bsbr/nonfinite.hpp"
#include "bsbr/parallel.hpp"
#include "harness/job/runtime.hpp"
#include "harness/verify.hpp"
#include "measure/measurement.hpp"
#include "memory/footprint.hpp"
#include "programs/evaluate_options.hpp"
#include "programs/model_run.hpp"
#include "progress/progress.hpp"
#include "report/json_output.hpp"
#include "report/summary.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// The losses of all tokens and what they are compared with, where the kernels run.
struct Losses {
  Array<const std::int32_t**> targets;
  Array<double**> of_tokens;
};

/// The file of --by-position: one object, with a list of ranges.
void write_by_position(const Runtime& runtime, const std::string& path, const std::vector<PositionLoss>& ranges) {
  nlohmann::ordered_json json{{"format", "bsbr-loss-by-position"}, {"format_version", 1}};
  json["ranges"] = nlohmann::ordered_json::array();
  for (const PositionLoss& range : ranges) {
    nlohmann::ordered_json one{{"begin", range.begin}, {"end", range.end}};
    add_loss(one, range.mean);
    json["ranges"].push_back(std::move(one));
  }
  parallel::agree(runtime.comm(), [&] {
    if (runtime.is_first()) write_json(path, json);
  });
}

/// Means and files.
void finish(const Runtime& runtime, const EvaluateOptions& options, const Sequence& sequence, const Losses& losses,
            Progress& progress, Summary& summary) {
  LossSum sum(sequence.batch(), sequence.length());
  parallel::agree(runtime.comm(), [&] { sum.add(sequence, losses.of_tokens, losses.targets); });
  summary.loss = sum.mean(runtime.comm());
  if (!options.by_position.empty()) {
    progress.step("writing " + options.by_position);
    write_by_position(runtime, options.by_position, sum.by_position(runtime.comm()));
  }
  if (!options.token_losses.empty()) {
    progress.step("writing " + options.token_losses);
    write_token_losses(options.token_losses, summary.config, result_attributes(options, summary), sequence,
                       summary.loss->loss, losses.of_tokens);
  }
}

/// The run itself, once it is known to be possible.
template <class Real>
void compute(const Runtime& runtime, const EvaluateOptions& options, const std::string& stdin_path,
             const Sequence& sequence, Summary& summary) {
  Progress progress(options.progress, runtime.is_first(), "bsbr_evaluate");
  progress.step("reading " + options.input_name());
  const Tokens tokens = read_tokens(source_of(options, stdin_path), sequence, summary.config.vocab_size);
  progress.step("reading " + options.model);
  Weights<Real> weights = read_weights<Real>(options.model, runtime.comm());
  weights.set_config(summary.config);
  Model<Real> model(weights);

  const Execution execution;
  std::optional<DeviceTokens> device;
  std::optional<OutputLayer<Real>> head;
  parallel::agree(runtime.comm(), [&] {
    device.emplace(tokens);
    head.emplace(weights);
  });
  Losses losses;
  losses.targets = next_tokens(execution, sequence, device->ids, device->mask);
  Array<Real***> states;
  summary.measurement = measure(runtime.comm(), options.repeat, [&](std::int64_t number, Profile& profile) {
    profile.progress = progress.forward("", number, options.repeat);
    states = {};  // those of the forward before: memory for one is enough
    losses.of_tokens = {};
    states = model.forward(execution, sequence, device->ids, device->mask, &profile);
    losses.of_tokens = head->losses(execution, sequence, states, losses.targets, &profile).loss;
  });
  summary.nonfinite = find_nonfinite<Real>(execution, sequence, states);
  if (options.verify) {
    progress.step("comparing with the reference");
    summary.verification = verify<Real>(weights, sequence, tokens, states);
  }
  finish(runtime, options, sequence, losses, progress, summary);
}

template <class Real>
void evaluate(const Runtime& runtime, const EvaluateOptions& options, const std::string& stdin_path,
              const ModelConfig& config) {
  TokenShape shape = find_input_shape(options, stdin_path, config.vocab_size, runtime.comm());
  shape.length = std::min(shape.length, options.max_tokens.value_or(shape.length));
  const Sequence sequence(runtime.comm(), shape.batch, shape.length, config.chunk_size);
  if (options.verify) require_verifiable(config, sequence);
  Footprint footprint;
  const Extras extras{
      .mask = shape.has_mask, .result = !options.token_losses.empty(), .verify = options.verify, .loss = true};
  parallel::agree(runtime.comm(), [&] { footprint = predict_footprint<Real>(config, sequence, extras); });

  Summary summary = begin_summary(runtime, options, config, shape);
  summary.evaluates = true;
  summary.output = options.token_losses;
  run_and_report(runtime, options, sequence, footprint, summary,
                 [&] { compute<Real>(runtime, options, stdin_path, sequence, summary); });
}

void run(const Runtime& runtime, const EvaluateOptions& options) {
  check_outputs(runtime, options, {options.token_losses, options.by_position});
  with_model(runtime, options, [&](const ModelConfig& config, const std::string& stdin_path) {
    require_head(config);
    if (options.precision == Precision::float32)
      evaluate<float>(runtime, options, stdin_path, config);
    else
      evaluate<double>(runtime, options, stdin_path, config);
  });
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_evaluate", argc, argv, bsbr::apps::parse_evaluate_options, bsbr::apps::run);
}
