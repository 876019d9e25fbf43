// bsbr_train: trains a model to predict the next token, on all ranks, and goes on from checkpoints.
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "bsbr/checkpoint.hpp"
#include "bsbr/io.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/training.hpp"
#include "bsbr/training_data.hpp"
#include "harness/format.hpp"
#include "harness/job/runtime.hpp"
#include "harness/memory.hpp"
#include "measure/measurement.hpp"
#include "measure/product_rate.hpp"
#include "memory/footprint.hpp"
#include "programs/train_options.hpp"
#include "progress/pace.hpp"
#include "progress/progress.hpp"
#include "report/report.hpp"
#include "report/training_summary.hpp"
#include "training/checkpoints.hpp"
#include "training/run_limits.hpp"
#include "training/training_log.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr std::int64_t bytes_there_are = 256;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Share of the rate of matrix products that a step attains: docs/performance.md, "Loss and gradients".
constexpr double share_of_product_rate = 0.7;

/// Sinusoids of size 1 drown the small embedding that a head which shares it needs.
constexpr const char* tied_head_note =
    "a tied head is for models that were converted: from random weights, one with a separate head learns better";

/// Where the run begins: a model, or a checkpoint and its record.
struct Start {
  ModelConfig config;
  std::optional<TrainingRecord> record;
};

/// What the library calls an invalid configuration was asked for on the command line here.
template <class Work>
auto as_usage(const Work& work) {
  try {
    return work();
  } catch (const UsageError&) {
    throw;
  } catch (const ConfigError& error) {
    throw UsageError(error.what(), error.hint());
  }
}

TokenSource source_of(const std::string& text, const TrainingSettings& settings) {
  TokenSource source = TokenSource::parse(text);
  source.bytes = settings.bytes;
  return source;
}

TrainingOptions training_options(const TrainingSettings& settings, Recompute recompute) {
  return {.optimizer = settings.optimizer,
          .learning_rate = settings.learning_rate,
          .clip = settings.clip,
          .recompute = recompute,
          .dropout = settings.dropout,
          .seed = static_cast<std::uint64_t>(settings.seed)};
}

/// What a run has of its ranks' work, once it is known to be possible.
struct Job {
  const Runtime& runtime;
  const TrainOptions& options;
  const TrainingSettings& settings;
  Start start;
  TrainingGrid grid;
  TrainingData data;
  std::optional<ValidationData> validation;
};

/// A run from its first step to its last.
template <class Real>
class TrainingRun {
 public:
  TrainingRun(Job& job, Recompute recompute, TrainingSummary& summary)
      : m_job(job),
        m_summary(summary),
        m_limits(job.options.max_seconds, job.options.stop_after),
        m_progress(job.options.progress, job.runtime.is_first(), "bsbr_train"),
        m_trainer(make_trainer(recompute)),
        m_checkpoints(make_checkpoints()) {
    if (job.start.record) m_record = *job.start.record;
    m_record.attributes = to_attributes(job.settings);
    for (const LoggedStep& step : m_record.log) note_validation(step.validation_loss);
  }

  void run();

 private:
  Trainer<Real> make_trainer(Recompute recompute);
  Checkpoints make_checkpoints() const;
  void check_data();
  void open_log();
  void finish_log();
  std::vector<MicroBatch> read(std::int64_t number);
  bool take_step(std::int64_t number);
  void note(const TrainingStep& step, double seconds);
  double validate();
  bool note_validation(double loss);
  void save(bool is_last, bool is_best);
  void show(const TrainingStep& step, double seconds);
  [[noreturn]] void give_up();

  Job& m_job;
  TrainingSummary& m_summary;
  RunLimits m_limits;
  Progress m_progress;
  Trainer<Real> m_trainer;
  Checkpoints m_checkpoints;
  TrainingRecord m_record;
  std::optional<TrainingLog> m_log;  // of rank 0
  std::int64_t m_bad_in_a_row = 0;
};

template <class Real>
Trainer<Real> TrainingRun<Real>::make_trainer(Recompute recompute) {
  m_progress.step("reading " + m_job.options.start());
  const Weights<Real> weights = read_weights<Real>(m_job.options.start(), m_job.runtime.comm());
  Trainer<Real> trainer(weights, m_job.grid, training_options(m_job.settings, recompute));
  if (m_job.start.record) read_training_state(m_job.options.resume, *m_job.start.record, trainer);
  return trainer;
}

template <class Real>
Checkpoints TrainingRun<Real>::make_checkpoints() const {
  const TrainOptions& options = m_job.options;
  const CheckpointFiles files{options.output, options.keep, options.best};
  return m_job.start.record ? Checkpoints(files, options.resume, *m_job.start.record) : Checkpoints(files);
}

/// Reads once what may hold ids beyond the vocabulary, so that these are reported before the first step.
template <class Real>
void TrainingRun<Real>::check_data() {
  const auto read_all = [&](ValidationData data, const std::string& name) {
    m_progress.step("checking " + name);
    for (std::int64_t i = 1; i <= data.steps(); ++i) data.step(i);
    data.wait();
  };
  const std::int64_t vocab_size = m_job.start.config.vocab_size;
  const auto any_may_be_wrong = [&](const TokenShape& shape) {
    return shape.format != TokenFormat::bytes || vocab_size < bytes_there_are;
  };
  if (!m_job.start.record && any_may_be_wrong(m_job.data.shape())) {
    read_all(ValidationData(source_of(m_job.settings.input, m_job.settings), m_job.grid, vocab_size),
             m_job.settings.input);
  }
  if (m_job.validation && any_may_be_wrong(m_job.validation->shape()))
    read_all(*m_job.validation, m_job.settings.validation);
}

template <class Real>
void TrainingRun<Real>::open_log() {
  parallel::agree(m_job.runtime.comm(), [&] {
    if (m_job.runtime.is_first()) m_log.emplace(m_job.options.log, m_record.step);
  });
}

/// Lines that could not be written so far.
template <class Real>
void TrainingRun<Real>::finish_log() {
  parallel::agree(m_job.runtime.comm(), [&] {
    if (m_log) m_log->finish();
  });
}

/// What has been trained so far is saved, if there is something wrong with what comes next.
template <class Real>
std::vector<MicroBatch> TrainingRun<Real>::read(std::int64_t number) {
  try {
    return m_job.data.step(number);
  } catch (const FileError&) {
    if (m_summary.steps_done() > 0) save(true, false);
    throw;
  }
}

/// The mean loss of all windows that are for validation.
template <class Real>
double TrainingRun<Real>::validate() {
  m_progress.step("validating");
  double sum = 0, counted = 0;
  for (std::int64_t i = 1; i <= m_job.validation->steps(); ++i) {
    const MeanLoss mean = m_trainer.evaluate(Execution(), m_job.validation->step(i));
    sum += mean.loss * static_cast<double>(mean.counted);
    counted += static_cast<double>(mean.counted);
  }
  m_job.validation->wait();
  return counted == 0 ? 0 : sum / counted;
}

/// Returns whether it is the lowest so far.
template <class Real>
bool TrainingRun<Real>::note_validation(double loss) {
  if (std::isnan(loss)) return false;
  m_summary.validation_loss = loss;
  if (m_summary.best_validation_loss && loss >= *m_summary.best_validation_loss) return false;
  m_summary.best_validation_loss = loss;
  return true;
}

template <class Real>
void TrainingRun<Real>::show(const TrainingStep& step, double seconds) {
  const auto left = static_cast<double>(m_job.settings.steps - step.step);
  const auto tokens = static_cast<double>(m_summary.tokens_per_step());
  m_progress.update(
      "step " + show_count(step.step) + " of " + show_count(m_job.settings.steps) + ", loss " +
      show_number("%.4f", step.loss.loss) + ", " + show_count(std::llround(tokens / seconds)) + " tokens per second, " +
      show_duration(left * m_summary.step_seconds / static_cast<double>(m_summary.steps_done())) + " left");
}

/// Summary, record and log of a step.
template <class Real>
void TrainingRun<Real>::note(const TrainingStep& step, double seconds) {
  m_summary.step = step.step;
  m_summary.step_seconds += seconds;
  m_summary.loss = step.loss.loss;
  m_bad_in_a_row = step.is_taken ? 0 : m_bad_in_a_row + 1;
  if (!step.is_taken) ++m_summary.bad_steps;
  m_record.step = step.step;
  m_record.tokens_seen = step.step * m_summary.tokens_per_step();
  m_record.log.push_back({step.step, step.loss.loss, step.gradient_norm, step.learning_rate, nan});
  show(step, seconds);
}

/// Returns whether there is another one.
template <class Real>
bool TrainingRun<Real>::take_step(std::int64_t number) {
  const MPI_Comm comm = m_job.runtime.comm();
  m_progress.update("step " + show_count(number) + " of " + show_count(m_job.settings.steps));
  const double begin = m_limits.seconds();
  const TrainingStep step = m_trainer.step(Execution(), read(number));
  const double seconds = m_limits.seconds() - begin;
  note(step, seconds);
  m_summary.stopped_by = number < m_job.settings.steps ? m_limits.reason_to_stop(comm, number) : "";
  const bool has_failed = m_bad_in_a_row >= m_job.options.max_bad_steps,
             is_last = number == m_job.settings.steps || !m_summary.stopped_by.empty() || has_failed;
  bool is_best = false;
  if (m_job.validation && (number == m_job.settings.steps || number % m_job.settings.validate_every == 0)) {
    m_record.log.back().validation_loss = validate();
    is_best = note_validation(m_record.log.back().validation_loss);
  }
  if (m_log) {
    const auto tokens = static_cast<double>(m_summary.tokens_per_step());
    m_progress.warn(m_log->write(m_record.log.back(), m_record.tokens_seen, {seconds, tokens / seconds}));
  }
  if (is_last || number % m_job.options.save_every == 0 || (is_best && !m_job.options.best.empty()))
    save(is_last, is_best);
  if (has_failed) give_up();
  return !is_last;
}

template <class Real>
void TrainingRun<Real>::save(bool is_last, bool is_best) {
  m_progress.step("writing " + m_job.options.output);
  m_job.data.wait();
  const double begin = m_limits.seconds();
  const std::optional<OutputError> failure = m_checkpoints.save(m_trainer, m_record, is_best);
  m_limits.note_saving(m_limits.seconds() - begin);
  if (!failure) return;
  if (is_last) throw OutputError(*failure);
  m_progress.warn(std::string(failure->what()) + "; training goes on");
}

template <class Real>
void TrainingRun<Real>::give_up() {
  finish_log();
  throw DivergenceError("loss or gradient norm is NaN or infinite in " + show_several(m_bad_in_a_row, "step") +
                            " in a row, up to step " + show_count(m_record.step) + "; weights as before them are in " +
                            m_job.options.output,
                        "a lower --learning-rate, a longer --warmup-steps, or --precision double");
}

template <class Real>
void TrainingRun<Real>::run() {
  check_data();
  open_log();
  std::int64_t number = m_record.step;
  if (number == m_job.settings.steps) save(true, false);  // under the name that it is to have now
  while (number < m_job.settings.steps && take_step(++number)) {
  }
  finish_log();
  m_summary.seconds = m_limits.seconds();
}

/// What is known before the run.
TrainingSummary begin_summary(const Job& job) {
  TrainingSummary summary;
  summary.config = job.start.config;
  summary.settings = job.settings;
  summary.environment = find_environment(job.runtime);
  summary.stored = {source_of(job.settings.input, job.settings).path, job.data.shape()};
  summary.start = job.options.start();
  summary.output = job.options.output;
  if (!job.start.record && job.start.config.head == Head::tied) summary.note = tied_head_note;
  summary.step = summary.first_step = job.start.record ? job.start.record->step : 0;
  summary.groups = job.grid.groups();
  summary.sequence_ranks = job.grid.shape().sequence_ranks;
  return summary;
}

/// From what matrix products take on the slowest rank. Collective.
template <class Real>
std::optional<double> expected_seconds(const Job& job, const TrainingSummary& summary) {
  const std::optional<double> rate = product_rate<Real>();
  if (!rate) return std::nullopt;
  const double of_all = parallel::all_reduce(*rate, MPI_MIN, job.runtime.comm()) * job.runtime.ranks();
  const double work = summary.recomputes ? 4.0 / 3 : 1;
  return static_cast<double>(job.settings.steps - summary.first_step) * summary.flops_per_step() * work /
         (share_of_product_rate * of_all);
}

/// Whether it ended early.
template <class Real>
bool train(Job& job) {
  const MPI_Comm comm = job.runtime.comm();
  Footprint footprint;
  const auto predict = [&](Recompute recompute) {
    parallel::agree(comm, [&] {
      footprint = predict_training_footprint<Real>(
          job.start.config, job.grid, training_options(job.settings, recompute), job.data.shape().has_mask);
    });
    return recompute;
  };
  Recompute recompute = predict(job.options.recompute.value_or(Recompute::none));
  if (!job.options.recompute && !has_memory(comm, footprint.added)) recompute = predict(Recompute::all);
  TrainingSummary summary = begin_summary(job);
  summary.recomputes = recompute == Recompute::all;
  summary.predicted_memory_bytes = largest(comm, footprint.total());
  if (job.options.dry_run) {
    summary.is_dry_run = true;
    summary.available_bytes = std::min(available_on_node(), available_to_process());
    summary.expected_seconds = expected_seconds<Real>(job, summary);
  } else {
    require_memory(comm, footprint.added,
                   "more ranks, a smaller --batch and more --accumulate, or --recompute all; --dry-run tells what "
                   "would be needed");
    TrainingRun<Real>(job, recompute, summary).run();
    summary.peak_memory_bytes = largest(comm, peak_resident_bytes());
  }
  report(job.runtime, job.options, summary);
  return !summary.stopped_by.empty();
}

/// Configuration and record; with a checkpoint its settings take the place of those that are not given.
Start read_start(const TrainOptions& options, TrainingSettings& settings, MPI_Comm comm) {
  Start start{read_config(options.start(), comm), std::nullopt};
  try {
    require_head(start.config);
  } catch (const ConfigError& error) {
    throw FileError(options.start() + ": " + error.what(), error.hint());
  }
  if (options.resume.empty()) {
    set_defaults(settings, options.given, start.config);
    return start;
  }
  start.record = read_training_record(options.resume, comm);
  settings = resumed_settings(settings, options.given, *start.record, options.resume);
  if (settings.steps < start.record->step) {
    throw UsageError("--steps " + std::to_string(settings.steps) + ": " + options.resume + " has " +
                         show_several(start.record->step, "step") + " already",
                     "--steps counts from the first step of all");
  }
  if (options.stop_after && *options.stop_after <= start.record->step) {
    throw UsageError("--stop-after " + std::to_string(*options.stop_after) + ": " + options.resume + " has " +
                         show_several(start.record->step, "step") + " already",
                     "--stop-after counts from the first step of all, too");
  }
  return start;
}

/// Rows of a dataset have a length of their own.
void find_length(TrainingSettings& settings, MPI_Comm comm) {
  if (settings.length > 0) return;
  const TokenShape shape = read_token_shape(source_of(settings.input, settings), comm);
  if (shape.dimensions == 1) {
    throw UsageError(
        "--length is required: " + settings.input + " is one sequence of " + show_several(shape.length, "token"),
        "training takes windows of --length tokens from it");
  }
  settings.length = shape.length;
}

ExitCode run(const Runtime& runtime, const TrainOptions& options) {
  const MPI_Comm comm = runtime.comm();
  for (const std::string& output : {options.output, options.best, options.log, options.json}) {
    if (!output.empty() && output != "-") check_output_path(output, comm);
  }
  TrainingSettings settings = options.settings;
  const Start start = read_start(options, settings, comm);
  as_usage([&] { training_options(settings, Recompute::all).validate(); });
  require_countable(settings);
  require_own_files(options, settings);
  if (!options.best.empty() && settings.validation.empty())
    throw UsageError("--best is of the lowest validation loss, and there is no --validation");
  find_length(settings, comm);
  const TrainingGrid grid = as_usage([&] {
    return TrainingGrid(comm,
                        {.length = settings.length,
                         .batch = settings.batch,
                         .accumulate = settings.accumulate,
                         .sequence_ranks = static_cast<std::int32_t>(options.sequence_ranks)},
                        start.config.chunk_size);
  });
  TrainingData data(source_of(settings.input, settings), grid, start.config.vocab_size,
                    {static_cast<std::uint64_t>(settings.seed), settings.shuffle});
  std::optional<ValidationData> validation;
  if (!settings.validation.empty()) {
    validation.emplace(source_of(settings.validation, settings), grid, start.config.vocab_size,
                       settings.validation_tokens);
  }
  Job job{runtime, options, settings, start, grid, std::move(data), std::move(validation)};
  const bool ended_early = settings.precision == Precision::float32 ? train<float>(job) : train<double>(job);
  return ended_early ? stopped_early : done;
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_train", argc, argv, bsbr::apps::parse_train_options, bsbr::apps::run);
}
