// bsbr_evaluate: how well a model predicts the next token of sequences, on all ranks.
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "bsbr/gradient.hpp"
#include "bsbr/io.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/model.hpp"
#include "bsbr/nonfinite.hpp"
#include "bsbr/parallel.hpp"
#include "harness/job/runtime.hpp"
#include "harness/memory.hpp"
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

/// `path`: of --token-losses or --gradients; empty: none.
template <class Write>
void write_file(const std::string& path, Progress& progress, const Write& write) {
  if (path.empty()) return;
  progress.step("writing " + path);
  write();
}

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
  write_file(options.token_losses, progress, [&] {
    write_token_losses(options.token_losses, summary.config, result_attributes(options, summary), sequence,
                       summary.loss->loss, losses.of_tokens);
  });
}

/// Losses and gradients, --repeat times; the file of --gradients.
template <class Real>
void compute_gradients(const Runtime& runtime, const EvaluateOptions& options, const Sequence& sequence,
                       const Weights<Real>& weights, const DeviceTokens& tokens, Recompute recompute, Losses& losses,
                       Progress& progress, Summary& summary) {
  const Execution execution;
  std::optional<ModelGradient<Real>> model;
  parallel::agree(runtime.comm(), [&] { model.emplace(weights); });
  std::optional<LossAndGradients<Real>> result;
  summary.measurement = measure(runtime.comm(), options.repeat, [&](std::int64_t number, Profile& profile) {
    profile.progress = progress.forward("", number, options.repeat);
    result.reset();  // that of the pass before: memory for one is enough
    result.emplace(model->compute(execution, sequence, tokens.ids, losses.targets, tokens.mask, &profile, recompute));
  });
  losses.of_tokens = result->token_losses;
  write_file(options.gradients, progress, [&] {
    write_gradients<Real>(options.gradients, summary.config, result_attributes(options, summary), sequence,
                          result->loss.loss, losses.of_tokens, result->gradients);
  });
}

/// Losses alone, --repeat times.
template <class Real>
void compute_losses(const Runtime& runtime, const EvaluateOptions& options, const Sequence& sequence,
                    const Weights<Real>& weights, const Tokens& tokens, const DeviceTokens& device, Losses& losses,
                    Progress& progress, Summary& summary) {
  const Execution execution;
  Model<Real> model(weights);
  std::optional<OutputLayer<Real>> head;
  parallel::agree(runtime.comm(), [&] { head.emplace(weights); });
  Array<Real***> states;
  summary.measurement = measure(runtime.comm(), options.repeat, [&](std::int64_t number, Profile& profile) {
    profile.progress = progress.forward("", number, options.repeat);
    states = {};  // those of the forward before: memory for one is enough
    losses.of_tokens = {};
    states = model.forward(execution, sequence, device.ids, device.mask, &profile);
    losses.of_tokens = head->losses(execution, sequence, states, losses.targets, &profile).loss;
  });
  summary.nonfinite = find_nonfinite<Real>(execution, sequence, states);
  if (!options.verify) return;
  progress.step("comparing with the reference");
  summary.verification = verify<Real>(weights, sequence, tokens, states);
}

/// The run itself, once it is known to be possible.
template <class Real>
void compute(const Runtime& runtime, const EvaluateOptions& options, const std::string& stdin_path,
             const Sequence& sequence, Recompute recompute, Summary& summary) {
  Progress progress(options.progress, runtime.is_first(), "bsbr_evaluate");
  progress.step("reading " + options.input_name());
  const Tokens tokens = read_tokens(source_of(options, stdin_path), sequence, summary.config.vocab_size);
  progress.step("reading " + options.model);
  Weights<Real> weights = read_weights<Real>(options.model, runtime.comm());
  weights.set_config(summary.config);
  const Execution execution;
  std::optional<DeviceTokens> device;
  parallel::agree(runtime.comm(), [&] { device.emplace(tokens); });
  Losses losses;
  losses.targets = next_tokens(execution, sequence, device->ids, device->mask);
  if (options.gradients.empty()) {
    compute_losses(runtime, options, sequence, weights, tokens, *device, losses, progress, summary);
  } else {
    compute_gradients(runtime, options, sequence, weights, *device, recompute, losses, progress, summary);
  }
  finish(runtime, options, sequence, losses, progress, summary);
}

template <class Real>
void evaluate(const Runtime& runtime, const EvaluateOptions& options, const std::string& stdin_path,
              const ModelConfig& config) {
  TokenShape shape = find_input_shape(options, stdin_path, config.vocab_size, runtime.comm());
  shape.length = std::min(shape.length, options.max_tokens.value_or(shape.length));
  const bool with_gradients = !options.gradients.empty();
  const Sequence sequence = with_gradients
                                ? gradient_sequence(runtime.comm(), shape.batch, shape.length, config.chunk_size)
                                : Sequence(runtime.comm(), shape.batch, shape.length, config.chunk_size);
  if (options.verify) require_verifiable(config, sequence);
  Footprint footprint;
  Extras extras{.mask = shape.has_mask,
                .result = !options.token_losses.empty() || with_gradients,
                .verify = options.verify,
                .loss = true,
                .gradients = with_gradients};
  const auto predict = [&](Recompute recompute) {
    extras.recompute = recompute;
    parallel::agree(runtime.comm(), [&] { footprint = predict_footprint<Real>(config, sequence, extras); });
  };
  predict(options.recompute.value_or(Recompute::none));
  if (with_gradients && !options.recompute && !has_memory(runtime.comm(), footprint.added)) predict(Recompute::all);

  Summary summary = begin_summary(runtime, options, config, shape);
  summary.evaluates = true;
  summary.output = with_gradients ? options.gradients : options.token_losses;
  run_and_report(runtime, options, sequence, footprint, summary,
                 [&] { compute<Real>(runtime, options, stdin_path, sequence, extras.recompute, summary); });
}

void run(const Runtime& runtime, const EvaluateOptions& options) {
  check_outputs(runtime, options, {options.token_losses, options.gradients, options.by_position});
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
