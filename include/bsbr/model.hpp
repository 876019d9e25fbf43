// The transformer: one layer, and the whole model.
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

/// Buffers that a layer works in, for one configuration and shape of sequence: made once, used by every layer.
template <class Real>
class Workspace {
 public:
  /// Throws ConfigError, MemoryError.
  Workspace(const ModelConfig& config, const Sequence& sequence);
  ~Workspace();

  /// The shape that it was made for.
  const Sequence& sequence() const { return m_sequence; }

  Array<Real****> projections;  ///< [3 or 4, batch, local tokens, attention_dim]: query, key, value and, for gau, gate
  Array<Real***> heads;         ///< [batch, local tokens, attention_dim]: what the attention returns; the key, if it may be that
  Array<Real****> retrieval;    ///< bsbr: [2, batch, local chunks, hidden_dim]: r and h; else empty
  std::unique_ptr<Attention<Real>> attention;           ///< with its own workspace
  std::unique_ptr<kernels::PanelBuffers<Real>> panels;  ///< rows on their way through the products

 private:
  Sequence m_sequence;
  Array<Real****> m_separate_heads;  // where they may not be the key
};

/// What Workspace(config, sequence) and a hidden state of that shape will take on this rank, without allocating: bytes.
template <class Real>
std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence);

/// One pre-norm transformer layer, with Workspace and PaddingMask shared by all: x += Attention(LN1(x)); x += W2·GELU(W1·LN2(x) + b1) + b2.
template <class Real>
class Layer {
 public:
  /// The layer `index` of a model with these weights, which are shared; on a host the matrices of its products are copied, in the order in
  /// which those read them. Throws ConfigError, MemoryError.
  Layer(const Weights<Real>& weights, std::int64_t index);

  /// x [batch, local tokens, hidden_dim], changed in place. Collective over the sequence's communicator. Throws ShapeError.
  void forward(const Execution& execution, const PaddingMask& mask, Workspace<Real>& workspace, const Array<Real***>& x,
               Profile* profile = nullptr) const;

 private:
  struct Parts;
  AttentionInput<Real> attention_input(const Workspace<Real>& workspace) const;

  Weights<Real> m_weights;
  std::string m_prefix;  // "layers.3."
  std::shared_ptr<const Parts> m_parts;
};

/// What the layers of a model copy of its weights: bytes, 0 on a GPU.
template <class Real>
std::int64_t packed_weight_bytes(const ModelConfig& config);

/// A transformer with one of the seven attentions.
template <class Real>
class Model {
 public:
  /// Throws Error if Kokkos is not initialised, MemoryError. Later changes of the weights do not reach the model.
  explicit Model(Weights<Real> weights);

  /// Architecture and sizes, those of the weights.
  const ModelConfig& config() const { return m_weights.config(); }
  /// Those that it was made from.
  const Weights<Real>& weights() const { return m_weights; }

  /// Hidden states [batch, local tokens, hidden_dim] after the final norm, of
  /// ids [batch, local tokens] and, optionally, mask [batch, local tokens] (1 real, 0 padding).
  /// Collective over the sequence's communicator; all ranks give a mask, or none does. The workspace is kept for the next call with the
  /// same Sequence or a copy of it. Throws ShapeError (extents, a chunk_size that is not the model's, an id outside the vocabulary, a mask
  /// value other than 0 and 1), MemoryError, CommunicationError: on all ranks.
  Array<Real***> forward(const Execution& execution, const Sequence& sequence, const Array<const std::int32_t**>& ids,
                         const std::optional<Array<const std::uint8_t**>>& mask = std::nullopt, Profile* profile = nullptr);

 private:
  /// Checks what forward is given and sees to its memory, on all ranks.
  void prepare(const Execution& execution, const Sequence& sequence, const Array<const std::int32_t**>& ids, bool has_mask,
               Array<Real***>& states);

  Weights<Real> m_weights;
  std::vector<Layer<Real>> m_layers;
  std::unique_ptr<Workspace<Real>> m_workspace;
};

}  // namespace bsbr
