// The checkpoints of a training run: the last ones, and the one of the lowest validation loss.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bsbr/checkpoint.hpp"
#include "bsbr/error.hpp"

namespace bsbr::apps {

/// What is written where.
struct CheckpointFiles {
  std::string output;     ///< the last one
  std::int64_t keep = 1;  ///< how many of the last ones there are to be
  std::string best;       ///< of the lowest validation loss; empty: none
};

/// What went wrong while checkpoints were saved, the same on all ranks.
struct SavingProblems {
  std::optional<OutputError> failure;  ///< a checkpoint could not be written, and is as it was before
  std::vector<std::string> others;     ///< earlier checkpoints that could not be kept, or removed
};

class Checkpoints {
 public:
  /// Of a run that begins: what is there under the names is none of its own.
  explicit Checkpoints(CheckpointFiles files);

  /// Of a run that goes on from a checkpoint, the file `resumed`: if that is the output, it and those that were kept
  /// beside it are the run's own. A best checkpoint is, if it is of the same run and of the same validation data.
  /// Collective.
  /// \param before the record of that checkpoint
  /// \param attributes the options of the run, as they are now
  Checkpoints(CheckpointFiles files, const std::string& resumed, const TrainingRecord& before,
              const Attributes& attributes, MPI_Comm comm);

  /// Whether the best checkpoint is to be that of this validation loss.
  bool would_be_best(double validation_loss) const;

  /// Writes the last one, and before it the best one if the last step of the record has the lowest validation loss.
  /// Collective over the trainer's ranks.
  template <class Real>
  SavingProblems save(const Trainer<Real>& trainer, const TrainingRecord& record);

 private:
  std::string name_of(std::int64_t step) const;
  std::vector<std::int64_t> kept_with(std::int64_t step) const;
  void keep_last() const;
  void remove(const std::vector<std::int64_t>& steps) const;

  CheckpointFiles m_files;
  std::vector<std::int64_t> m_kept;   // steps, ascending: model-step-500.h5 beside model.h5
  std::int64_t m_last = 0;            // step of the output; 0: it is none of this run's
  std::optional<double> m_best_loss;  // of the best checkpoint; empty: it is none of this run's
};

/// How many checkpoints the run keeps of which this is the record: 1 unless it says otherwise.
std::int64_t checkpoints_to_keep(const TrainingRecord& record);

/// Whether `path` may become the name of an earlier checkpoint beside `output`: model-step-500.h5 for model.h5.
bool is_name_of_kept(const std::string& path, const std::string& output);

}  // namespace bsbr::apps
