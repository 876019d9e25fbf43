#include "programs/training_run.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "bsbr/loss.hpp"
#include "bsbr/parallel.hpp"
#include "harness/format.hpp"
#include "progress/pace.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

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

template <class Real>
TrainingRun<Real>::TrainingRun(TrainingJob& job, Recompute recompute, TrainingSummary& summary)
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

/// What is wrong with the data is reported before the first step.
template <class Real>
void TrainingRun<Real>::check_data() {
  m_progress.step("checking " + m_job.settings.input);
  m_job.data.check();
  if (!m_job.validation) return;
  m_progress.step("checking " + m_job.settings.validation);
  m_job.validation->check();
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

template class TrainingRun<float>;
template class TrainingRun<double>;

}  // namespace bsbr::apps
