// Loss and gradients of a whole model.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "bsbr/loss.hpp"
#include "bsbr/model.hpp"
#include "kernels/token_loss_gradient.hpp"
#include "model/gradients.hpp"
#include "model/layer_gradient.hpp"

namespace bsbr {

/// What a batch's loss is, and how it changes with each weight.
template <class Real>
struct LossAndGradients {
  MeanLoss loss;
  Array<double**> token_losses;  ///< [batch, local tokens], 0 where there is no target
  Gradients<Real> gradients;     ///< of the mean loss, the same on all ranks
};

/// Loss and gradients of a model with a head. Layers are computed again in the backward pass: of the forward pass only
/// the input of each is kept.
template <class Real>
class ModelGradient {
 public:
  /// \throws ConfigError if the model has no head \throws MemoryError if there is not enough memory
  explicit ModelGradient(const Weights<Real>& weights);

  /// Collective over the sequence's communicator; exceptions are thrown on all ranks.
  /// \param sequence made with chunks_together = leaf_chunks(length, chunk_size): no rank's part ends within a leaf
  /// \param ids [batch, local tokens]
  /// \param targets [batch, local tokens]: an id, or no_target
  /// \param mask [batch, local tokens]: 1 = real token, 0 = padding; empty: no padding
  LossAndGradients<Real> compute(const Execution& execution, const Sequence& sequence,
                                 const Array<const std::int32_t**>& ids, const Array<const std::int32_t**>& targets,
                                 const std::optional<Array<const std::uint8_t**>>& mask = std::nullopt,
                                 Profile* profile = nullptr);

  // Steps. Public because CUDA's compiler wants functions that hold kernels to be.
  void head_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                     const Array<Real***>& x, const Array<const std::int32_t**>& targets,
                     const Array<double**>& log_sums, double scale, const Array<Real***>& gradient,
                     const Array<Real*>& sums, const Array<Real**>& head_sums) const;

 private:
  ModelConfig m_config;
  Weights<Real> m_weights;
  std::vector<Layer<Real>> m_layers;
  std::vector<LayerGradient<Real>> m_gradients;
  OutputLayer<Real> m_output;
  std::vector<kernels::ProductWeight<Real>> m_head, m_transposed_head;  // blocks of the vocabulary
};

}  // namespace bsbr
