// bsbr_evaluate: how well a model predicts the next token of sequences, on all ranks.
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <utility>

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
#include "programs/evaluate_pieces.hpp"
#include "programs/evaluation_input.hpp"
#include "programs/loss_by_position.hpp"
#include "programs/model_run.hpp"
#include "progress/progress.hpp"
#include "report/summary.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// The losses of the batches that have been evaluated.
class Losses {
 public:
  /// `keeps`: those of all tokens are wanted, not only their sums.
  Losses(const EvaluatedSequences& all, bool keeps)
      : m_count(all.count), m_keeps(keeps), m_sum(all.count, all.length) {}

  /// The next batch's, [batch, local tokens]. Throws MemoryError.
  void add(const Batch& batch, const Array<double**>& losses) {
    m_sum.add(batch.sequence, losses, batch.targets);
    if (!m_keeps) return;
    if (batch.size() == m_count) {
      m_of_tokens = losses;
      return;
    }
    if (batch.first == 0) m_of_tokens = allocate(m_count, batch.sequence.local_tokens());
    const auto rows = std::make_pair(batch.first, batch.first + batch.size());
    Kokkos::deep_copy(Kokkos::subview(m_of_tokens, rows, Kokkos::ALL), losses);
  }

  const LossSum& sum() const { return m_sum; }
  const Array<double**>& of_tokens() const { return m_of_tokens; }  ///< [count, local tokens]

 private:
  static Array<double**> allocate(std::int64_t count, std::int64_t tokens) {
    try {
      return Array<double**>(Kokkos::view_alloc("bsbr::evaluate::losses", Kokkos::WithoutInitializing), count, tokens);
    } catch (const std::exception& error) {
      throw MemoryError("no memory for the losses of all tokens: " + std::string(error.what()));
    }
  }

  std::int64_t m_count;
  bool m_keeps;
  LossSum m_sum;
  Array<double**> m_of_tokens;
};

/// What is evaluated, and how: the same for all batches.
struct Job {
  const Runtime& runtime;
  const EvaluateOptions& options;
  TokenSource source;
  EvaluatedSequences sequences;
  Sequence batch;  ///< of all batches but the last one, which may have fewer sequences

  Batch read(std::int64_t first, std::int64_t vocab_size) const {
    return read_batch(source, sequences, first, of_rows(std::min(sequences.batch, sequences.count - first)),
                      vocab_size);
  }

  /// So many sequences.
  Sequence of_rows(std::int64_t rows) const {
    return rows == batch.batch() ? batch : Sequence(batch.comm(), rows, batch.length(), batch.chunk_size());
  }
};

/// `path`: of --token-losses or --gradients; empty: none.
template <class Write>
void write_file(const std::string& path, Progress& progress, const Write& write) {
  if (path.empty()) return;
  progress.step("writing " + path);
  write();
}

/// Means and files.
void finish(const Job& job, const Losses& losses, Progress& progress, Summary& summary) {
  const EvaluateOptions& options = job.options;
  summary.loss = losses.sum().mean(job.runtime.comm());
  if (!options.by_position.empty()) {
    progress.step("writing " + options.by_position);
    write_by_position(job.runtime, options.by_position, losses.sum().by_position(job.runtime.comm()));
  }
  write_file(options.token_losses, progress, [&] {
    write_token_losses(options.token_losses, summary.config, result_attributes(options, summary),
                       job.of_rows(job.sequences.count), summary.loss->loss, losses.of_tokens());
  });
}

/// Losses and gradients of the only batch, --repeat times; the file of --gradients.
template <class Real>
void compute_gradients(const Job& job, const Weights<Real>& weights, Recompute recompute, Losses& losses,
                       Progress& progress, Summary& summary) {
  const Execution execution;
  const EvaluateOptions& options = job.options;
  const Batch batch = job.read(0, summary.config.vocab_size);
  std::optional<ModelGradient<Real>> model;
  parallel::agree(job.batch.comm(), [&] { model.emplace(weights); });
  std::optional<LossAndGradients<Real>> result;
  summary.measurement = measure(job.batch.comm(), options.repeat, [&](std::int64_t number, Profile& profile) {
    profile.progress = progress.forward("", number, options.repeat);
    result.reset();  // that of the pass before: memory for one is enough
    result.emplace(model->compute(execution, batch.sequence, batch.device->ids, batch.targets, batch.device->mask,
                                  &profile, recompute));
  });
  parallel::agree(job.batch.comm(), [&] { losses.add(batch, result->token_losses); });
  parallel::agree(job.batch.comm(),
                  [&] { summary.nonfinite_gradients = find_nonfinite(summary.config, result->gradients); });
  if (options.verify) {
    progress.step("comparing with the reference");
    summary.gradient_verification = verify_gradients<Real>(weights, batch.sequence, batch.tokens, batch.targets,
                                                           result->loss.loss, result->gradients);
  }
  write_file(options.gradients, progress, [&] {
    write_gradients<Real>(options.gradients, summary.config, result_attributes(options, summary), batch.sequence,
                          result->loss.loss, result->token_losses, result->gradients);
  });
}

/// What is said of the hidden states of a batch.
template <class Real>
void look_at_states(const Job& job, const Weights<Real>& weights, const Batch& batch, const Array<Real***>& states,
                    Progress& progress, Summary& summary) {
  summary.add(find_nonfinite<Real>(Execution(), batch.sequence, states), {batch.first, 0});
  if (!job.options.verify) return;
  if (batch.first == 0) {
    progress.step("comparing with the reference");
    summary.verification.emplace();
  }
  summary.verification->add(verify<Real>(weights, batch.sequence, batch.tokens, states), batch.first);
}

/// Losses alone, of each batch --repeat times.
template <class Real>
void compute_losses(const Job& job, const Weights<Real>& weights, Losses& losses, Progress& progress,
                    Summary& summary) {
  const Execution execution;
  const std::int64_t repeat = job.options.repeat;
  Model<Real> model(weights);
  std::optional<OutputLayer<Real>> head;
  parallel::agree(job.batch.comm(), [&] { head.emplace(weights); });
  for (std::int64_t number = 0; number < job.sequences.batches(); ++number) {
    const Batch batch = job.read(number * job.sequences.batch, summary.config.vocab_size);
    Array<Real***> states;
    Array<double**> of_tokens;
    summary.measurement.add(measure(job.batch.comm(), repeat, [&](std::int64_t again, Profile& profile) {
      profile.progress = progress.forward("", number * repeat + again, job.sequences.batches() * repeat);
      states = {};  // those of the forward before: memory for one is enough
      of_tokens = {};
      states = model.forward(execution, batch.sequence, batch.device->ids, batch.device->mask, &profile);
      of_tokens = head->losses(execution, batch.sequence, states, batch.targets, &profile).loss;
    }));
    look_at_states<Real>(job, weights, batch, states, progress, summary);
    parallel::agree(job.batch.comm(), [&] { losses.add(batch, of_tokens); });
  }
}

/// The run itself, once it is known to be possible.
template <class Real>
void compute(const Job& job, Recompute recompute, Summary& summary) {
  const EvaluateOptions& options = job.options;
  Progress progress(options.progress, job.runtime.is_first(), "bsbr_evaluate");
  progress.step("reading " + options.model);
  Weights<Real> weights = read_weights<Real>(options.model, job.runtime.comm());
  weights.set_config(summary.config);
  weights.set_rounding(rounding_of(options.precision));
  progress.step("reading " + options.input_name());
  Losses losses(job.sequences, !options.token_losses.empty());
  if (options.gradients.empty()) {
    compute_losses(job, weights, losses, progress, summary);
  } else {
    compute_gradients(job, weights, recompute, losses, progress, summary);
  }
  finish(job, losses, progress, summary);
}

/// The ranks' parts of a batch.
Job make_job(const Runtime& runtime, const EvaluateOptions& options, const TokenSource& source,
             const EvaluatedSequences& sequences, std::int64_t chunk_size) {
  const auto [count, length, batch, stride] = sequences;
  return {runtime, options, source, sequences,
          options.gradients.empty() ? Sequence(runtime.comm(), batch, length, chunk_size)
                                    : gradient_sequence(runtime.comm(), batch, length, chunk_size)};
}

/// What takes memory besides the forward pass.
Extras extras_of(const Job& job, bool has_mask) {
  const EvaluateOptions& options = job.options;
  const bool with_gradients = !options.gradients.empty(), keeps = !options.token_losses.empty();
  Extras extras{.mask = has_mask,
                .result = keeps || with_gradients,
                .verify = options.verify,
                .loss = true,
                .gradients = with_gradients,
                .rounding = rounding_of(options.precision)};
  if (keeps && job.sequences.batches() > 1) extras.kept_losses = job.sequences.count * job.batch.local_tokens();
  return extras;
}

template <class Real>
void evaluate(const Runtime& runtime, const EvaluateOptions& options, const std::string& stdin_path,
              const ModelConfig& config) {
  if (options.streams()) return evaluate_pieces<Real>(runtime, options, stdin_path, config);
  TokenShape shape = find_input_shape(options, stdin_path, config.vocab_size, runtime.comm());
  shape.length = std::min(shape.length, options.max_tokens.value_or(shape.length));
  const TokenSource source = source_of(options, stdin_path);
  const EvaluatedSequences sequences = choose_sequences(options, source.path, shape);
  const bool with_gradients = !options.gradients.empty();
  if (options.verify) require_verifiable(config, sequences.count, sequences.length, with_gradients);
  const Job job = make_job(runtime, options, source, sequences, config.chunk_size);
  Footprint footprint;
  Extras extras = extras_of(job, shape.has_mask);
  const auto predict = [&](Recompute recompute) {
    extras.recompute = recompute;
    parallel::agree(runtime.comm(), [&] { footprint = predict_footprint<Real>(config, job.batch, extras); });
  };
  predict(options.recompute.value_or(Recompute::none));
  if (with_gradients && !options.recompute && !has_memory(runtime.comm(), footprint.added)) predict(Recompute::all);

  Summary summary = begin_summary(runtime, options, config, shape);
  summary.batch = sequences.batch;
  summary.length = sequences.length;
  if (sequences.stride) summary.windows = Windows{sequences.count, *sequences.stride};
  summary.evaluates = true;
  summary.output = with_gradients ? options.gradients : options.token_losses;
  run_and_report(runtime, options, job.batch, footprint, summary,
                 [&] { compute<Real>(job, extras.recompute, summary); });
}

void run(const Runtime& runtime, const EvaluateOptions& options) {
  check_outputs(runtime, options, {options.token_losses, options.gradients, options.by_position, options.state_out});
  with_model(runtime, options, [&](const ModelConfig& config, const std::string& stdin_path) {
    require_head(config);
    if (options.precision != Precision::float64)
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
