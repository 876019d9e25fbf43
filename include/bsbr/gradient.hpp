// The loss of a model, and how it changes with each weight.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "bsbr/loss.hpp"
#include "bsbr/mask.hpp"
#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/weights.hpp"

namespace bsbr {

/// The sequence of a batch whose gradients are formed: Sequence(…), but ranks share it by leaves of some hundred to
/// some thousand tokens. Gradients of weights are sums over all tokens: each leaf's, formed by one rank, and then the
/// leaves' in the order of a binary tree, so that they have the same bits on any number of ranks
/// (docs/architecture.md#gradients). Collective. \throws what Sequence throws
Sequence gradient_sequence(MPI_Comm comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size);

/// Loss and gradients of one batch.
template <class Real>
struct LossAndGradients {
  MeanLoss loss;                 ///< of the whole batch, the same on all ranks
  Array<double**> token_losses;  ///< [batch, local tokens], in nats; 0 where there is no target
  WeightArray<Real> gradients;   ///< of the mean loss, for each weight, the same on all ranks
};

/// What the backward pass computes again of each layer: the numbers are the same either way.
enum class Recompute {
  all,  ///< everything: of the forward pass only the input of each layer is kept
  none  ///< no attention and no product: what they give is kept, too
};

/// Their names.
inline constexpr auto recomputations =
    std::to_array<Named<Recompute>>({{Recompute::all, "all"}, {Recompute::none, "none"}});

template <class Real>
struct GradientModules;

/// Computes loss and gradients of a model with a head. With Recompute::all each layer is computed again in the backward
/// pass: of the forward pass only what it was given is kept, hidden_dim elements for each token.
template <class Real>
class ModelGradient {
 public:
  /// On CPUs it repacks the weights, so later changes to `weights` have no effect.
  /// \throws ConfigError if the model has no head \throws MemoryError if there is not enough memory
  explicit ModelGradient(const Weights<Real>& weights);

  /// Collective over the sequence's communicator; exceptions are thrown on all ranks. The buffers are kept for the next
  /// call with the same Sequence or a copy of it, and the same `recompute`.
  /// \param execution where the kernels run; it has been fenced when this returns
  /// \param sequence a gradient_sequence() of the model's chunk_size
  /// \param ids [batch, local tokens], each from 0 to vocab_size − 1
  /// \param targets [batch, local tokens]: an id, or no_target
  /// \param mask [batch, local tokens]: 1 = real token, 0 = padding; empty: no padding
  /// \param profile times and bytes are added to it; may be null
  /// \param recompute what is computed again
  /// \throws ShapeError if extents or chunk sizes do not fit, or an id or a target is outside the vocabulary
  /// \throws ConfigError if a rank's part of the sequence ends within a leaf
  /// \throws MemoryError if there is not enough memory
  /// \throws CommunicationError if MPI fails or a rank does not respond in time
  LossAndGradients<Real> compute(const Execution& execution, const Sequence& sequence,
                                 const Array<const std::int32_t**>& ids, const Array<const std::int32_t**>& targets,
                                 const std::optional<Array<const std::uint8_t**>>& mask = std::nullopt,
                                 Profile* profile = nullptr, Recompute recompute = Recompute::all);

 private:
  struct Buffers;

  void prepare(const Execution& execution, const Sequence& sequence, Recompute recompute);

  std::shared_ptr<const GradientModules<Real>> m_modules;
  std::shared_ptr<Buffers> m_buffers;  // of the last sequence, for the next call
};

/// Forward and gradient of one layer, for models of one's own.
template <class Real>
class LayerGradient {
 public:
  /// Layer `index` (from 0) of a model with these weights, and all buffers for a gradient_sequence() of the model's
  /// chunk_size. On CPUs it repacks the weights, so later changes to `weights` have no effect. Not collective.
  /// \throws ConfigError if the configuration has no such layer, or a rank's part of the sequence ends within a leaf
  /// \throws ShapeError if the sequence has another chunk_size \throws MemoryError if there is not enough memory
  LayerGradient(const Weights<Real>& weights, std::int64_t index, const Sequence& sequence,
                Recompute recompute = Recompute::all);

  /// What the layer makes of x: as Layer::forward, with the same bits. Keeps what backward() reads. Collective over the
  /// sequence's communicator; exceptions are thrown on all ranks.
  /// \param execution where the kernels run
  /// \param mask the padding mask of the sequence
  /// \param x [batch, local tokens, hidden_dim]: stays as it is
  /// \param result of the same shape, and shares no element with x
  /// \param profile times and bytes are added to it; may be null
  /// \throws ShapeError if extents do not fit \throws CommunicationError if MPI fails or a rank does not respond in
  /// time
  void forward(const Execution& execution, const PaddingMask& mask, const Array<Real***>& x,
               const Array<Real***>& result, Profile* profile = nullptr);

  /// The gradient of x and of the layer's weights from that of the result. Once after each forward(). Collective.
  /// \param execution where the kernels run
  /// \param mask as in the forward
  /// \param x as in the forward
  /// \param gradient [batch, local tokens, hidden_dim]: that of the result, which becomes that of x
  /// \param weights gets those of this layer's weights, sums over the tokens of all ranks, the same on all of them
  /// \param profile times and bytes are added to it; may be null
  /// \throws Error if no forward() has come before \throws ShapeError if extents do not fit
  /// \throws CommunicationError if MPI fails or a rank does not respond in time
  void backward(const Execution& execution, const PaddingMask& mask, const Array<Real***>& x,
                const Array<Real***>& gradient, const WeightArray<Real>& weights, Profile* profile = nullptr);

 private:
  struct Parts;
  std::shared_ptr<Parts> m_parts;
};

/// Predicts the bytes that a ModelGradient and its compute() take on this rank, with the result, besides the weights,
/// ids, targets and mask. Allocates nothing.
/// The sequence is a gradient_sequence() of the configuration's chunk_size.
/// \throws ConfigError if a rank's part of the sequence ends within a leaf
template <class Real>
std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence, Recompute recompute = Recompute::all);

}  // namespace bsbr
