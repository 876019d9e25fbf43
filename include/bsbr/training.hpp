// Training: steps of AdamW that have the same bits on any number of ranks and threads, however ranks share a step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bsbr/gradient.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/weights.hpp"

namespace bsbr {

/// What decides how AdamW (Loshchilov and Hutter 2019) goes, besides the learning rate; as PyTorch's:
///
///     m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  w ← w − η(λw + m̂/(√v̂ + ε)),  m̂ = m/(1−β₁ˢ),  v̂ = v/(1−β₂ˢ)
struct AdamWOptions {
  double beta1 = 0.9;         ///< of the mean of gradients, 0 to below 1
  double beta2 = 0.95;        ///< of the mean of their squares, 0 to below 1
  double epsilon = 1e-8;      ///< added to the root of the latter, above 0
  double weight_decay = 0.1;  ///< λ, of matrices, embedding and head too, not of vectors: biases, norms; 0 or more

  /// \throws ConfigError if a number is outside its range
  void validate() const;
};

/// The learning rate of each step: a linear warm-up, then half a cosine. With η = learning_rate, steps counted from 1:
///
///     η·s / warmup_steps                                                          s ≤ warmup_steps
///     min + (η − min)·½(1 + cos(π (s − warmup_steps) / (decay_steps − warmup_steps)))   up to decay_steps
///     min                                                                         after it
///
/// decay_steps = 0: no decay, the rate stays at η. warmup_steps = 0: the cosine begins at once. The warm-up goes first:
/// with 0 < decay_steps ≤ warmup_steps the rate is `min` from the step after it on.
struct LearningRate {
  double learning_rate = 1e-3;    ///< η
  double min_learning_rate = 0;   ///< min
  std::int64_t warmup_steps = 0;  ///< see above
  std::int64_t decay_steps = 0;   ///< see above

  /// \throws ConfigError if a number is outside its range
  void validate() const;

  /// Of step s = 1, 2, …
  double at(std::int64_t step) const;
};

/// The sequences of a step: micro-batch after micro-batch.
struct StepShape {
  std::int64_t length = 0;          ///< tokens of a sequence
  std::int64_t batch = 1;           ///< sequences of a micro-batch
  std::int64_t accumulate = 1;      ///< micro-batches of a step
  std::int32_t sequence_ranks = 0;  ///< ranks that share a sequence; 0: the fewest with which batch divides evenly
};

/// How ranks share a step: they form a grid of groups, each of which takes some sequences of every micro-batch and
/// shares these by leaves, as a gradient_sequence() does. Copies share the communicators.
class TrainingGrid {
 public:
  /// Collective. \param comm all ranks \param shape of a step \param chunk_size the model's
  /// \throws ConfigError if a number is below 1, sequence_ranks does not divide the ranks, or the groups the batch
  TrainingGrid(MPI_Comm comm, const StepShape& shape, std::int64_t chunk_size);

  const StepShape& shape() const { return m_shape; }        ///< with the sequence_ranks that were chosen
  MPI_Comm comm() const { return *m_comm; }                 ///< a duplicate of `comm`
  const Sequence& sequence() const { return *m_sequence; }  ///< this rank's part of a micro-batch
  std::int32_t groups() const { return m_groups; }          ///< number of groups
  std::int32_t group() const { return m_group; }            ///< that of this rank
  std::int64_t first_row() const;                           ///< of each micro-batch, that this rank's group has

 private:
  StepShape m_shape;
  std::shared_ptr<MPI_Comm> m_comm;
  std::int32_t m_groups = 1, m_group = 0;
  std::optional<Sequence> m_sequence;
};

/// What decides how a model is trained, besides its data.
struct TrainingOptions {
  AdamWOptions optimizer;                ///< of each weight
  LearningRate learning_rate;            ///< of each step
  double clip = 1;                       ///< the gradient's norm is scaled down to this; 0: it is not
  Recompute recompute = Recompute::all;  ///< what the backward pass computes again: decides no bit

  /// Probability with which a number is dropped, 0 to below 1; others are scaled by 1/(1 − dropout). Of the sum of
  /// embedding and positions, and of what `out_proj` and `ff.3` give, before it is added. Whether a number is dropped
  /// is a function of seed, step, layer, place, sequence of the step, token and column
  /// (docs/architecture.md#training).
  double dropout = 0;
  std::uint64_t seed = 0;  ///< of dropout

  /// \throws ConfigError if a number is outside its range
  void validate() const;
};

/// What this rank is given of a micro-batch.
struct MicroBatch {
  Array<const std::int32_t**> ids;      ///< [rows of the group, local tokens], each from 0 to vocab_size − 1
  Array<const std::int32_t**> targets;  ///< of the same shape: an id, or no_target
  std::optional<Array<const std::uint8_t**>> mask;  ///< of the same shape: 1 = real token; empty: no padding
};

/// What became of a step.
struct TrainingStep {
  std::int64_t step = 0;     ///< from 1 on
  MeanLoss loss;             ///< before the step, over all its sequences
  double gradient_norm = 0;  ///< before clipping
  double learning_rate = 0;  ///< of this step
  bool is_taken = false;     ///< no: nothing has changed but the number of steps; Trainer::step() says when
};

/// A range of all weights that a rank owns, and what the optimiser keeps of it: views of the trainer's own memory.
template <class Real>
struct OwnedWeights {
  std::int64_t offset = 0;      ///< of the first one in Weights::data()
  Array<const Real*> weights;   ///< as they are now
  Array<Real*> first_moments;   ///< the mean of gradients, m
  Array<Real*> second_moments;  ///< the mean of their squares, v
};

/// Trains a model with a head. Each rank owns a part of every array of gradients, has the moments of these weights
/// and updates them: of P ranks each has moments of 8/P bytes a weight in float. Then all ranks get the new weights.
template <class Real>
class Trainer {
 public:
  /// Takes a copy of the weights. Collective; exceptions are thrown on all ranks.
  /// \throws ConfigError if the model has no head, an option is outside its range, or the grid is for another
  /// chunk_size \throws MemoryError if there is not enough memory
  Trainer(const Weights<Real>& weights, const TrainingGrid& grid, const TrainingOptions& options);

  /// One step of the optimiser; none if loss, norm or the clipped norm's square is not finite in Real. Collective.
  /// \param execution where the kernels run; it has been fenced when this returns
  /// \param batches grid.shape().accumulate of them, in order
  /// \param profile times and bytes are added to it; may be null
  /// \throws ShapeError on all ranks if there are more or fewer, extents do not fit, an id or a target is outside the
  /// vocabulary, or a mask value is neither 0 nor 1 \throws CommunicationError if MPI fails or a rank does not respond
  /// in time
  TrainingStep step(const Execution& execution, const std::vector<MicroBatch>& batches, Profile* profile = nullptr);

  /// The mean loss of as many sequences as a step has, with the weights as they are now; trains nothing. Arguments and
  /// exceptions are those of step(). Collective.
  MeanLoss evaluate(const Execution& execution, const std::vector<MicroBatch>& batches, Profile* profile = nullptr);

  /// Steps so far.
  std::int64_t steps() const;

  /// As they are now; complete on every rank.
  const Weights<Real>& weights() const;

  /// How its ranks share a step.
  const TrainingGrid& grid() const;

  /// What this rank owns, in the order of Weights::data(): what all ranks own is all weights, once. Not
  /// collective.
  std::vector<OwnedWeights<Real>> owned() const;

  /// Goes on behind so many steps, with the moments that are in owned() by now and the weights that it was made with.
  /// Not collective, but all ranks pass the same. \throws ConfigError if steps is negative
  void resume(std::int64_t steps);

 private:
  struct State;
  std::shared_ptr<State> m_state;
};

/// Predicts the bytes that a Trainer takes on this rank. Allocates nothing. \throws ConfigError as Trainer() does
template <class Real>
std::int64_t training_bytes(const ModelConfig& config, const TrainingGrid& grid, const TrainingOptions& options);

}  // namespace bsbr
