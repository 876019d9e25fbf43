// Checkpoints: model files that also have what training goes on with. docs/formats.md, "Checkpoints".
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/training.hpp"

namespace bsbr {

/// A line of the log: what became of a step.
struct LoggedStep {
  std::int64_t step = 0;       ///< from 1 on
  double loss = 0;             ///< before the step; NaN or infinite if the step was not taken
  double gradient_norm = 0;    ///< before clipping; NaN or infinite if the step was not taken
  double learning_rate = 0;    ///< of this step
  double validation_loss = 0;  ///< behind the step; NaN if there was none
};

/// What a checkpoint says of the training besides weights and moments.
struct TrainingRecord {
  std::int64_t step = 0;         ///< steps so far
  std::int64_t tokens_seen = 0;  ///< tokens of all steps so far
  Attributes attributes;         ///< the options that decide the numbers, by their names, and what else is to be known
  std::vector<LoggedStep> log;   ///< in the order of steps
};

/// Writes a checkpoint: a model file of the trainer's weights, in their precision, with /training. Collective over the
/// trainer's grid.comm(); all ranks pass the same path, and rank 0's record counts. Each rank writes what it owns.
///
/// The file is made as `<path>.part`, with its disk space reserved before anything is written, and renamed to `<path>`
/// when all of it is on the disk. Until then, and if anything fails, what was under the name stays.
/// \throws OutputError on all ranks if the file cannot be written, or an attribute is called `step`, `tokens_seen` or
/// `version`
/// \throws ConfigError on all ranks if record.step is not trainer.steps()
template <class Real>
void write_checkpoint(const std::string& path, const Trainer<Real>& trainer, const TrainingRecord& record);

/// Reads the record of a checkpoint. Collective: rank 0 reads, and all ranks get it. Everything is checked before it is
/// believed, that the file does hold weights and moments of its configuration included. \throws FileError on all
/// ranks; also if the file is a model file that is no checkpoint
TrainingRecord read_training_record(const std::string& path, MPI_Comm comm);

/// Reads the moments of a checkpoint (float32 or float64, converted to Real), and has the trainer go on behind
/// record.step. Its weights are those that it was made with: read_weights() of the same file. Collective over the
/// trainer's grid.comm(): each rank reads what it owns, whatever ranks and grid have written it.
/// \throws FileError on all ranks, also if the moments are of another configuration, NaN or infinite, or the second
/// ones negative
template <class Real>
void read_training_state(const std::string& path, const TrainingRecord& record, Trainer<Real>& trainer);

}  // namespace bsbr
