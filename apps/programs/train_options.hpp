// The command line of bsbr_train.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bsbr/gradient.hpp"
#include "progress/progress.hpp"
#include "training/settings.hpp"

namespace bsbr::apps {

struct TrainOptions {
  std::string model, resume;  ///< one of them: where the weights come from
  TrainingSettings settings;  ///< a resumed run's are those of its checkpoint, but for the ones that are given
  SettingNames given;         ///< settings that the command line has
  std::string output, best;   ///< checkpoints: the last one, and the one of the lowest validation loss; empty: none
  std::optional<std::int64_t> keep;  ///< how many of the last checkpoints there are to be; empty: as before, or 1
  std::int64_t save_every = 1000;
  std::optional<double> max_seconds;
  std::optional<std::int64_t> stop_after;
  std::int64_t max_bad_steps = 10;
  std::int64_t sequence_ranks = 0;     ///< 0: the fewest with which the batch divides evenly
  std::optional<Recompute> recompute;  ///< empty: nothing where memory is enough for that, else everything
  std::string log, json;               ///< files; empty: none; of json "-": stdout
  bool dry_run = false, quiet = false;
  ProgressOptions progress;
  double timeout = 0;  ///< seconds to wait for other ranks; 0: for ever

  const std::string& start() const { return resume.empty() ? model : resume; }
  bool prints_text() const { return !quiet && json != "-"; }
};

/// Throws UsageError if what is read would be overwritten, or a file written twice. `settings`: with those of the
/// checkpoint, once they are known.
void require_own_files(const TrainOptions& options, const TrainingSettings& settings);

/// Throws Answer, UsageError.
TrainOptions parse_train_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
