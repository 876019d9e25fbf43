// What a model makes of its hidden states: logits, and the loss of the next token.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/weights.hpp"

namespace bsbr {

/// Throws ConfigError unless the model has a head.
void require_head(const ModelConfig& config);

/// A target that is none: the position does not count.
inline constexpr std::int32_t no_target = -1;

/// The targets of a sequence of ids, [batch, local tokens]: the id of the next token, or no_target at the last token of
/// the whole sequence and where a token or the next one is padding. Collective over the sequence's communicator;
/// exceptions are thrown on all ranks.
/// \param execution where the kernels run; it has been fenced when this returns
/// \param sequence the shape of the batch, and this rank's part
/// \param ids [batch, local tokens]
/// \param mask [batch, local tokens]: 1 = real token, 0 = padding; empty: no padding
/// \throws ShapeError if extents do not fit
/// \throws MemoryError if there is not enough memory
/// \throws CommunicationError if MPI fails or a rank does not respond in time
Array<const std::int32_t**> next_tokens(const Execution& execution, const Sequence& sequence,
                                        const Array<const std::int32_t**>& ids,
                                        const std::optional<Array<const std::uint8_t**>>& mask = std::nullopt);

/// Of each token of this rank, [batch, local tokens].
struct TokenLosses {
  Array<double**> loss;     ///< −log softmax(logits)[target], in nats; 0 where there is no target
  Array<double**> log_sum;  ///< log Σ exp(logits), which a gradient needs
};

/// The head of a model: from hidden states after the final norm to losses. Logits of all tokens are never stored: those
/// of some rows, and of some ids, at a time.
template <class Real>
class OutputLayer {
 public:
  /// The head of a model with these weights, of which it has a repacked copy on CPUs: later changes to `weights` have
  /// no effect there. \throws ConfigError if the model has no head \throws MemoryError if there is not enough memory
  explicit OutputLayer(const Weights<Real>& weights);

  /// Collective over the sequence's communicator; exceptions are thrown on all ranks. A row's bits depend on that row
  /// alone.
  /// \param execution where the kernels run; it has been fenced when this returns
  /// \param sequence the shape of the batch, and this rank's part
  /// \param hidden_states after the final norm, [batch, local tokens, hidden_dim]
  /// \param targets [batch, local tokens]: an id, or no_target
  /// \param profile time of the phase "head" is added to it; may be null
  /// \throws ShapeError if extents do not fit, or a target is neither no_target nor within the vocabulary
  /// \throws MemoryError if there is not enough memory
  /// \throws CommunicationError if MPI fails or a rank does not respond in time
  TokenLosses losses(const Execution& execution, const Sequence& sequence, const Array<const Real***>& hidden_states,
                     const Array<const std::int32_t**>& targets, Profile* profile = nullptr) const;

 private:
  struct Modules;
  Weights<Real> m_weights;
  std::shared_ptr<const Modules> m_modules;
};

/// Predicts the bytes of OutputLayer and of its TokenLosses and targets on this rank. Allocates nothing.
template <class Real>
std::int64_t output_layer_bytes(const ModelConfig& config, const Sequence& sequence,
                                Rounding rounding = Rounding::none);

/// The mean loss of some positions.
struct MeanLoss {
  double loss = 0;           ///< nats; 0 if no position counts
  std::int64_t counted = 0;  ///< positions that have a target

  double bits_per_token() const;  ///< loss / ln 2
  double perplexity() const;      ///< e^loss
};

/// The mean loss of a range of positions in all sequences.
struct PositionLoss {
  std::int64_t begin = 0;  ///< the first position, counted from the first token of each sequence
  std::int64_t end = 0;    ///< behind the last one
  MeanLoss mean;           ///< over positions [begin, end)
};

/// Sums up the losses of sequences of one length, batch after batch. Sums are in double, and in an order that depends
/// on the number of sequences and their length only: not on how they are cut into batches, nor on ranks or threads.
class LossSum {
 public:
  /// sequences: how many there are, in all batches together; length: tokens of each.
  /// \throws ConfigError if a number is negative, or their product is too large
  LossSum(std::int64_t sequences, std::int64_t length);
  LossSum(LossSum&&) noexcept;  ///< leaves the other one to be destroyed or assigned to only
  ~LossSum();

  /// Adds the next sequence.batch() sequences. Not collective. Either all ranks add the same ones, each its part, or
  /// `first` says which.
  /// \param sequence the shape of this batch, and this rank's part
  /// \param losses [batch, local tokens], as OutputLayer gives them
  /// \param targets [batch, local tokens]; where there is none the loss does not count
  /// \param first the place of the first of them among all sequences, behind those that this rank has added
  /// \throws ShapeError if extents do not fit, or there are more sequences, or longer ones, than were announced
  void add(const Sequence& sequence, const Array<const double**>& losses, const Array<const std::int32_t**>& targets,
           std::optional<std::int64_t> first = std::nullopt);

  /// The mean over all sequences. Collective; all ranks return the same bits.
  /// \throws ShapeError if not all sequences have been added
  MeanLoss mean(MPI_Comm comm) const;

  /// The means over ranges of positions, in order. A range begins at each of 0 … 7 and at four positions of each power
  /// of two from there on (8, 10, 12, 14, 16, 20 …). Collective; all ranks return the same bits.
  /// \throws ShapeError if not all sequences have been added
  std::vector<PositionLoss> by_position(MPI_Comm comm) const;

 private:
  struct Sums;
  std::unique_ptr<Sums> m_sums;
};

/// The mean loss of one batch: LossSum of these sequences. Collective over the sequence's communicator.
/// \throws ShapeError on all ranks if extents do not fit
MeanLoss mean_loss(const Sequence& sequence, const Array<const double**>& losses,
                   const Array<const std::int32_t**>& targets);

}  // namespace bsbr
