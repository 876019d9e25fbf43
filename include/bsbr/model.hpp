// The transformer: one layer and the whole model.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bsbr/attention.hpp"
#include "bsbr/weights.hpp"

namespace bsbr {

namespace kernels {
template <class Real>
class PanelBuffers;
}

/// The buffers of a layer for one configuration and one shape of sequence. All layers share one workspace.
template <class Real>
class Workspace {
 public:
  /// Allocates all buffers. Not collective.
  /// rounding: that of the weights.
  /// \throws ConfigError if the configuration is not valid
  /// \throws MemoryError if there is not enough memory
  Workspace(const ModelConfig& config, const Sequence& sequence, Rounding rounding = Rounding::none);
  ~Workspace();

  Rounding rounding() const { return m_rounding; }  ///< that it was made for

  /// The sequence that it was made for, or moved to.
  const Sequence& sequence() const { return m_sequence; }

  /// Makes it one for another sequence: Attention::move_to. Not collective.
  void move_to(const Sequence& sequence);

  /// [3 or 4, batch, local tokens, attention_dim]: query, key, value and, for gau, gate. Where packs_rows(): keys and
  /// values as AttentionInput has them, and gate.
  Array<Real****> projections;
  Array<Real***> packed_queries;  ///< where packs_rows(): [batch, local tokens, attention_dim / 2]; else empty
  Array<Real***>
      heads;  ///< [batch, local tokens, attention_dim]: result of the attention; the key's memory where that is allowed
  Array<Real****> retrieval;                   ///< bsbr: [2, batch, local chunks, hidden_dim]: r and h; else empty
  std::unique_ptr<Attention<Real>> attention;  ///< the attention, with a workspace of its own
  std::unique_ptr<kernels::PanelBuffers<Real>> panels;  ///< rows between the products of a chain

 private:
  ModelConfig m_config;
  Sequence m_sequence;
  Rounding m_rounding;
  Array<Real****> m_separate_heads;  // where they may not be the key
};

/// Predicts the bytes of Workspace(config, sequence, rounding) and of the hidden states on this rank. Allocates
/// nothing.
template <class Real>
std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding = Rounding::none);

template <class Real>
struct LayerModules;

/// One pre-norm transformer layer: x += Attention(LN1(x)); x += W2·GELU(W1·LN2(x) + b1) + b2.
template <class Real>
class Layer {
 public:
  /// Layer `index` (from 0) of a model with these weights, which it shares. On CPUs, weight matrices are repacked
  /// (copied) for the GEMM kernel. \throws ConfigError if the configuration has no such layer \throws MemoryError if
  /// there is not enough memory
  Layer(const Weights<Real>& weights, std::int64_t index);

  /// Applies the layer to x in place. Collective over the sequence's communicator.
  /// \param execution where the kernels run
  /// \param mask the padding mask of the sequence
  /// \param workspace made for this configuration and this sequence
  /// \param x [batch, local tokens, hidden_dim]; shares no element with the workspace
  /// \param profile times and bytes are added to it; may be null
  /// \param state of this layer, for the tokens before the sequence's origin: Attention::forward
  /// \throws ShapeError if extents do not fit, or x overlaps the workspace
  /// \throws CommunicationError if MPI fails or a rank does not respond in time
  void forward(const Execution& execution, const PaddingMask& mask, Workspace<Real>& workspace, const Array<Real***>& x,
               Profile* profile = nullptr, AttentionState<Real>* state = nullptr) const;

  /// Its norms and linear layers, which its gradient shares.
  const std::shared_ptr<const LayerModules<Real>>& modules() const { return m_modules; }

 private:
  AttentionInput<Real> attention_input(const Workspace<Real>& workspace) const;

  Weights<Real> m_weights;
  std::string m_prefix;  // "layers.3."
  std::shared_ptr<const LayerModules<Real>> m_modules;
};

/// Bytes of the repacked weights of all layers of a model; 0 on a GPU, unless they are rounded.
template <class Real>
std::int64_t packed_weight_bytes(const ModelConfig& config, Rounding rounding = Rounding::none);

/// A transformer with one of the seven attentions.
template <class Real>
class Model {
 public:
  /// A model with these weights. On CPUs it repacks them, so later changes to `weights` have no effect.
  /// \throws Error if Kokkos is not initialised
  /// \throws MemoryError if there is not enough memory
  explicit Model(Weights<Real> weights);

  /// The configuration of its weights.
  const ModelConfig& config() const { return m_weights.config(); }
  /// The weights that it was made from.
  const Weights<Real>& weights() const { return m_weights; }

  /// One forward pass. Collective over the sequence's communicator; either all ranks pass a mask or none. The workspace
  /// is kept for the next call with the same Sequence or a copy of it, and so are the hidden states if the caller has
  /// no copy of that View by then. Exceptions are thrown on all ranks. \param execution where the kernels run; it has
  /// been fenced when this returns \param sequence the shape of the batch, and this rank's part; its chunk_size must be
  /// the model's \param ids [batch, local tokens], each from 0 to vocab_size − 1 \param mask [batch, local tokens]: 1 =
  /// real token, 0 = padding; empty: no padding \param profile times and bytes are added to it; may be null
  /// \param states of all layers, for the tokens before the sequence's origin; they become those of all tokens up to
  /// the sequence's end. An empty vector is filled where the origin is 0; null: nothing is kept \returns hidden states
  /// after the final norm, [batch, local tokens, hidden_dim] \throws ShapeError if extents or chunk sizes do not fit,
  /// an id is outside the vocabulary, or a mask value is neither 0 nor 1 \throws MemoryError if there is not enough
  /// memory \throws CommunicationError if MPI fails or a rank does not respond in time
  Array<Real***> forward(const Execution& execution, const Sequence& sequence, const Array<const std::int32_t**>& ids,
                         const std::optional<Array<const std::uint8_t**>>& mask = std::nullopt,
                         Profile* profile = nullptr, std::vector<AttentionState<Real>>* states = nullptr);

  /// Frees what the last forward has kept for the next one, before a sequence of another shape would. Collective over
  /// the communicator of the last forward.
  void release_memory();

 private:
  /// Checks the arguments of forward and allocates its memory, on all ranks.
  void prepare(const Execution& execution, const Sequence& sequence, const Array<const std::int32_t**>& ids,
               bool has_mask, std::vector<AttentionState<Real>>* states);

  Weights<Real> m_weights;
  std::vector<Layer<Real>> m_layers;
  // Of the last sequence, for the next forward.
  std::unique_ptr<Workspace<Real>> m_workspace;
  std::optional<PaddingMask> m_no_padding;
  Array<Real***> m_states;
};

}  // namespace bsbr
