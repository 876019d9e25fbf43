// What bsbr_train says of a run, as text and as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "bsbr/config.hpp"
#include "environment/environment.hpp"
#include "files/stored_tokens.hpp"
#include "training/settings.hpp"

namespace bsbr::apps {

struct TrainingSummary {
  ModelConfig config;
  TrainingSettings settings;
  Environment environment;
  StoredTokens stored;          ///< how the input is stored
  std::string start, output;    ///< model or checkpoint, and the checkpoint that is written
  std::string note;             ///< what is probably unintended about the model; empty: nothing
  std::int64_t first_step = 0;  ///< steps before this run
  std::int32_t groups = 1, sequence_ranks = 1;
  bool recomputes = true;
  std::int64_t predicted_memory_bytes = 0;  ///< of the largest rank

  // of a run
  std::int64_t step = 0;                                  ///< the last one, from the first of all on
  std::int64_t bad_steps = 0;                             ///< of this run, that changed nothing
  double seconds = 0;                                     ///< of this run: steps, reading, validation, checkpoints
  double step_seconds = 0;                                ///< of its steps alone
  double validation_seconds = 0, checkpoint_seconds = 0;  ///< of all validations, and of all checkpoints written
  std::optional<double> loss;                             ///< of the last step, before it
  std::optional<double> validation_loss, best_validation_loss;  ///< the last one; the lowest of all
  std::string stopped_by;                                       ///< why it ended early; empty: it did not
  std::int64_t peak_memory_bytes = 0;                           ///< of the largest rank

  // of a dry run
  bool is_dry_run = false;
  std::int64_t available_bytes = 0;        ///< on the first rank's node
  std::optional<double> expected_seconds;  ///< of all steps that are left

  std::int64_t windows_per_step() const { return settings.batch * settings.accumulate; }
  std::int64_t tokens_per_step() const { return windows_per_step() * settings.length; }
  std::int64_t steps_done() const { return step - first_step; }

  /// A validation, of which NaN is none.
  void note_validation(double nats);

  /// Useful floating-point operations of a step: three times the forward's.
  double flops_per_step() const;
};

std::string to_text(const TrainingSummary& summary);
nlohmann::ordered_json to_json(const TrainingSummary& summary);

}  // namespace bsbr::apps
