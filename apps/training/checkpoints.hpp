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

class Checkpoints {
 public:
  /// Of a run that begins: what is there under the name of the output is none of its own.
  explicit Checkpoints(CheckpointFiles files);

  /// Of a run that goes on from a checkpoint, the file `resumed`: if that is the output, it and those that were kept
  /// beside it are the run's own.
  Checkpoints(CheckpointFiles files, const std::string& resumed, const TrainingRecord& record);

  /// Writes the last one; with `is_best` the best one, too. Collective over the trainer's ranks.
  /// \returns what went wrong first, on all ranks; a checkpoint that could not be written is as it was before
  template <class Real>
  std::optional<OutputError> save(const Trainer<Real>& trainer, const TrainingRecord& record, bool is_best);

 private:
  std::string name_of(std::int64_t step) const;
  std::vector<std::int64_t> kept_with(std::int64_t step) const;
  void keep_last() const;
  void remove(const std::vector<std::int64_t>& steps) const;

  CheckpointFiles m_files;
  std::vector<std::int64_t>
      m_kept;               // steps, ascending: checkpoints beside the last one, model-step-500.h5 beside model.h5
  std::int64_t m_last = 0;  // step of the output; 0: it is none of this run's
};

}  // namespace bsbr::apps
