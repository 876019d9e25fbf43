// A run of bsbr_train from its first step to its last: steps, validation, log and checkpoints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bsbr/checkpoint.hpp"
#include "bsbr/io.hpp"
#include "bsbr/training.hpp"
#include "bsbr/training_data.hpp"
#include "harness/job/runtime.hpp"
#include "programs/train_options.hpp"
#include "progress/progress.hpp"
#include "report/training_summary.hpp"
#include "training/checkpoints.hpp"
#include "training/run_limits.hpp"
#include "training/training_log.hpp"

namespace bsbr::apps {

/// Where the run begins: a model, or a checkpoint and its record.
struct TrainingStart {
  ModelConfig config;
  std::optional<TrainingRecord> record;
};

/// What a run has of its ranks' work, once it is known to be possible.
struct TrainingJob {
  const harness::Runtime& runtime;
  const TrainOptions& options;
  const TrainingSettings& settings;
  TrainingStart start;
  TrainingGrid grid;
  TrainingData data;
  std::optional<ValidationData> validation;
};

/// A run from its first step to its last.
template <class Real>
class TrainingRun {
 public:
  /// Reads weights, and of a run that is resumed its moments. Collective.
  /// \param summary of the run; what becomes of the steps is added to it
  TrainingRun(TrainingJob& job, Recompute recompute, TrainingSummary& summary);

  /// All steps that are left, or those until something ends the run early. Collective.
  void run();

 private:
  Trainer<Real> make_trainer(Recompute recompute);
  TrainingRecord make_record() const;
  Checkpoints make_checkpoints() const;
  void check_data();
  void open_log();
  void finish_log();
  bool lacks_validation() const;
  void go_on();
  void take_step();
  bool ends_behind_step();
  template <class Reading>
  auto saving_if_it_fails(const Reading& reading);
  void note(const TrainingStep& step, double seconds);
  void log_step();
  void validate();
  std::string reason_to_stop();
  void save(bool is_last);
  void show(const TrainingStep& step, double seconds);
  [[noreturn]] void give_up();

  TrainingJob& m_job;
  TrainingSummary& m_summary;
  RunLimits m_limits;
  Progress m_progress;
  Trainer<Real> m_trainer;
  TrainingRecord m_record;
  Checkpoints m_checkpoints;
  std::optional<TrainingLog> m_log;      // of rank 0
  std::optional<StepTime> m_not_logged;  // of the last step, until its line is written
  std::string m_status;                  // what progress says of the last step
  std::int64_t m_bad_in_a_row = 0;
};

/// The text or token file that `text` names, FILE[:/dataset].
TokenSource source_of(const std::string& text, const TrainingSettings& settings);

/// What of the settings the library has to know.
TrainingOptions training_options(const TrainingSettings& settings, Recompute recompute);

}  // namespace bsbr::apps
