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

bool was_taken(const LoggedStep& step) { return std::isfinite(step.loss) && std::isfinite(step.gradient_norm); }

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
      m_record(make_record()),
      m_checkpoints(make_checkpoints()) {
  for (const LoggedStep& step : m_record.log) m_bad_in_a_row = was_taken(step) ? 0 : m_bad_in_a_row + 1;
  if (!m_record.log.empty()) m_summary.loss = m_record.log.back().loss;
  // Losses of other validation data cannot be compared with those to come.
  if (!job.start.record || !has_same_validation(job.start.record->attributes, m_record.attributes)) return;
  for (const LoggedStep& step : m_record.log) m_summary.note_validation(step.validation_loss);
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
TrainingRecord TrainingRun<Real>::make_record() const {
  TrainingRecord record = m_job.start.record.value_or(TrainingRecord{});
  record.attributes = to_attributes(m_job.settings);
  return record;
}

template <class Real>
Checkpoints TrainingRun<Real>::make_checkpoints() const {
  const TrainOptions& options = m_job.options;
  const CheckpointFiles files{options.output, options.keep.value_or(1), options.best};
  if (!m_job.start.record) return Checkpoints(files);
  return {files, options.resume, *m_job.start.record, m_record.attributes, m_job.runtime.comm()};
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
    if (m_job.runtime.is_first()) m_log.emplace(m_job.options.log, m_record.log, m_summary.tokens_per_step());
  });
}

/// Lines that could not be written so far.
template <class Real>
void TrainingRun<Real>::finish_log() {
  parallel::agree(m_job.runtime.comm(), [&] {
    if (m_log) m_log->finish();
  });
}

/// Whether a validation is due behind the last step, and has not been made.
template <class Real>
bool TrainingRun<Real>::lacks_validation() const {
  const std::int64_t step = m_record.step;
  return m_job.validation && (step == m_job.settings.steps || step % m_job.settings.validate_every == 0) &&
         !m_record.log.empty() && m_record.log.back().step == step && std::isnan(m_record.log.back().validation_loss);
}

/// What has been trained so far is saved, if there is something wrong with the data.
template <class Real>
template <class Reading>
auto TrainingRun<Real>::saving_if_it_fails(const Reading& reading) {
  try {
    return reading();
  } catch (const FileError&) {
    log_step();
    if (m_summary.steps_done() > 0) save(true);
    throw;
  }
}

/// The mean loss of all windows that are for validation, behind the last step. Infinite stands for NaN, too, as NaN is
/// for steps without a validation.
template <class Real>
void TrainingRun<Real>::validate() {
  m_progress.step("validating");
  const double begin = m_limits.seconds();
  double sum = 0, counted = 0;
  for (std::int64_t i = 1; i <= m_job.validation->steps(); ++i) {
    const MeanLoss mean = m_trainer.evaluate(Execution(), m_job.validation->step(i));
    sum += mean.loss * static_cast<double>(mean.counted);
    counted += static_cast<double>(mean.counted);
  }
  m_job.validation->wait();
  const double seconds = m_limits.seconds() - begin;
  m_limits.note_validation(seconds);
  m_summary.validation_seconds += seconds;
  const double loss = sum / counted;  // something counts: check_data() has seen to that
  m_record.log.back().validation_loss = std::isnan(loss) ? std::numeric_limits<double>::infinity() : loss;
  m_summary.note_validation(m_record.log.back().validation_loss);
}

template <class Real>
void TrainingRun<Real>::show(const TrainingStep& step, double seconds) {
  const auto left = static_cast<double>(m_job.settings.steps - step.step);
  const auto tokens = static_cast<double>(m_summary.tokens_per_step());
  m_status = "step " + show_count(step.step) + " of " + show_count(m_job.settings.steps) + ", loss " +
             show_number("%.4f", step.loss.loss) + ", " + show_count(std::llround(tokens / seconds)) +
             " tokens per second, " +
             show_duration(left * m_summary.step_seconds / static_cast<double>(m_summary.steps_done())) + " left";
  m_progress.update(m_status);
}

/// Summary, record and progress of a step.
template <class Real>
void TrainingRun<Real>::note(const TrainingStep& step, double seconds) {
  m_limits.note_step(seconds);
  m_summary.step = step.step;
  m_summary.step_seconds += seconds;
  m_summary.loss = step.loss.loss;
  m_bad_in_a_row = step.is_taken ? 0 : m_bad_in_a_row + 1;
  if (!step.is_taken) ++m_summary.bad_steps;
  m_record.step = step.step;
  m_record.tokens_seen = step.step * m_summary.tokens_per_step();
  m_record.log.push_back({step.step, step.loss.loss, step.gradient_norm, step.learning_rate, nan});
  m_not_logged = StepTime{seconds, static_cast<double>(m_summary.tokens_per_step()) / seconds};
  show(step, seconds);
}

/// The line of the last step, once.
template <class Real>
void TrainingRun<Real>::log_step() {
  if (m_log && m_not_logged) m_progress.warn(m_log->write(m_record.log.back(), *m_not_logged));
  m_not_logged.reset();
}

template <class Real>
void TrainingRun<Real>::take_step() {
  const std::int64_t number = m_record.step + 1;
  m_progress.update(m_status.empty() ? "step " + show_count(number) + " of " + show_count(m_job.settings.steps)
                                     : m_status);
  const double begin = m_limits.seconds();
  const TrainingStep step = m_trainer.step(Execution(), saving_if_it_fails([&] { return m_job.data.step(number); }));
  note(step, m_limits.seconds() - begin);
}

/// Why the run ends behind the last step, before the validation that may be due; empty: it goes on. A run that has to
/// stop does not wait for a validation: it is made up for when the run is resumed.
template <class Real>
std::string TrainingRun<Real>::reason_to_stop() {
  const bool is_last = m_record.step == m_job.settings.steps, validates = lacks_validation();
  if (is_last && !validates) return "";
  return m_limits.reason_to_stop(m_job.runtime.comm(), m_record.step, is_last,
                                 validates ? m_job.validation->steps() : 0);
}

/// Validation, log and checkpoints behind a step, as they are due. Returns whether the run ends.
template <class Real>
bool TrainingRun<Real>::ends_behind_step() {
  const std::int64_t number = m_record.step;
  m_summary.stopped_by = reason_to_stop();
  if (m_summary.stopped_by.empty() && lacks_validation()) {
    saving_if_it_fails([&] { validate(); });
    m_summary.stopped_by = reason_to_stop();
  }
  log_step();
  const bool has_failed = m_bad_in_a_row >= m_job.options.max_bad_steps,
             ends = number == m_job.settings.steps || !m_summary.stopped_by.empty() || has_failed;
  if (ends || number % m_job.options.save_every == 0 ||
      m_checkpoints.would_be_best(m_record.log.back().validation_loss))
    save(ends);
  if (has_failed) give_up();
  return ends;
}

template <class Real>
void TrainingRun<Real>::save(bool is_last) {
  m_progress.step("writing " + m_job.options.output);
  m_job.data.wait();
  const double begin = m_limits.seconds();
  const SavingProblems problems = m_checkpoints.save(m_trainer, m_record);
  const double seconds = m_limits.seconds() - begin;
  m_limits.note_saving(seconds);
  m_summary.checkpoint_seconds += seconds;
  for (const std::string& problem : problems.others) m_progress.warn(problem);
  if (!problems.failure) return;
  if (is_last) throw OutputError(*problems.failure);
  m_progress.warn(std::string(problems.failure->what()) + "; training goes on");
}

template <class Real>
void TrainingRun<Real>::give_up() {
  finish_log();
  throw DivergenceError("loss or gradient norm is NaN or infinite in " + show_several(m_bad_in_a_row, "step") +
                            " in a row, up to step " + show_count(m_record.step) + "; weights as before them are in " +
                            m_job.options.output,
                        "a lower --learning-rate, a longer --warmup-steps, or --precision double");
}

/// Behind the step of the checkpoint: what the run that wrote it had no time for.
template <class Real>
void TrainingRun<Real>::go_on() {
  const bool is_behind = lacks_validation();
  if (is_behind) validate();
  if (m_record.step == m_job.settings.steps)
    save(true);  // under the name that it is to have now
  else if (is_behind && m_checkpoints.would_be_best(m_record.log.back().validation_loss))
    save(false);
}

template <class Real>
void TrainingRun<Real>::run() {
  m_progress.warn(m_summary.note);
  check_data();
  go_on();
  open_log();
  while (m_record.step < m_job.settings.steps) {
    take_step();
    if (ends_behind_step()) break;
  }
  finish_log();
  m_summary.seconds = m_limits.seconds();
}

template class TrainingRun<float>;
template class TrainingRun<double>;

}  // namespace bsbr::apps
