// What a run of a model will take of memory, known before it takes it.
#pragma once

#include <cstdint>

#include "bsbr/config.hpp"
#include "bsbr/gradient.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/training.hpp"

namespace bsbr::apps {

/// The resident memory of this rank's process, in bytes.
struct Footprint {
  std::int64_t now = 0;    ///< what it has already: the program, MPI, Kokkos
  std::int64_t added = 0;  ///< what the run adds at its peak
  std::int64_t total() const { return now + added; }
};

/// What is done besides the forward pass that takes memory.
struct Extras {
  bool mask = false;       ///< the tokens come with a mask
  bool result = false;     ///< a result file is written
  bool verify = false;     ///< the reference runs, on rank 0
  bool loss = false;       ///< the model's head computes losses
  bool gradients = false;  ///< and their gradients
  Recompute recompute = Recompute::all;
  Rounding rounding = Rounding::none;
  std::int64_t kept_losses = 0;  ///< of tokens on this rank, which are kept until those of all batches are there
};

/// To be called when MPI and Kokkos are set up, the configuration is read, and nothing large is allocated. Throws
/// ConfigError for what cannot be run, MemoryError for what no machine holds.
template <class Real>
Footprint predict_footprint(const ModelConfig& config, const Sequence& sequence, const Extras& extras);

/// The same for training, which reads one step ahead. has_mask: the tokens come with a mask.
template <class Real>
Footprint predict_training_footprint(const ModelConfig& config, const TrainingGrid& grid,
                                     const TrainingOptions& options, bool has_mask);

}  // namespace bsbr::apps
