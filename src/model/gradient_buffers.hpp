// What a model's gradient takes memory for, besides its modules: one list for allocation and prediction.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bsbr/gradient.hpp"
#include "model/allocate.hpp"
#include "model/gradient_sum.hpp"
#include "model/layer_backward.hpp"

namespace bsbr {

/// How many weights are summed together.
struct SummedElements {
  std::int64_t head, attention, rest, embedding;  // with the final norm; with the layer's first norm

  explicit SummedElements(const ModelConfig& config) {
    const LayerParts layer(config, 0);
    embedding = config.vocab_size * config.hidden_dim;
    head = 2 * config.hidden_dim + embedding;
    attention = layer.attention.elements + layer.norm1.elements;
    rest = layer.rest.elements;
  }
};

/// The buffers of one shape of sequence.
template <class Real>
struct ModelGradientBuffers {
  Sequence sequence;
  Recompute recompute;
  std::vector<Array<Real***>> rows;  // [batch, local tokens, hidden_dim]
  std::vector<LayerActivations<Real>> activations;
  GradientWorkspace<Real> workspace;
  GradientSum<Real> head, attention, rest, embedding;

  /// Not collective. Throws MemoryError.
  ModelGradientBuffers(const Execution& execution, const ModelConfig& config, const Sequence& of, Recompute which)
      : ModelGradientBuffers(execution, config, of, which, parallel::Leaves(of), SummedElements(config)) {}

  /// Throws ConfigError if a rank's part ends within a leaf.
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, Recompute recompute);

  /// Results of all layers, each of which is the next one's input. The first layer's input is made of ids when it is
  /// needed, where there is room: no array but the last one, which becomes the gradient.
  const Array<Real***>& input(std::size_t layer) const {
    return rows[layer == 0 ? 0 : layer - 1 + rows.size() - layers];
  }
  const Array<Real***>& gradient() const { return rows.back(); }

  /// Of a layer, or of all layers one after the other.
  LayerActivations<Real>& activations_of(std::size_t layer) {
    return activations[recompute == Recompute::none ? layer : 0];
  }

 private:
  std::size_t layers;

  static std::int64_t kept_rows(const ModelConfig& config) { return std::max<std::int64_t>(2, config.num_layers); }
  static std::int64_t kept_layers(const ModelConfig& config, Recompute recompute) {
    return recompute == Recompute::none ? config.num_layers : 1;
  }

  ModelGradientBuffers(const Execution& execution, const ModelConfig& config, const Sequence& of, Recompute which,
                       const parallel::Leaves& leaves, const SummedElements& elements)
      : sequence(of),
        recompute(which),
        workspace(config, of, local_leaves(of, leaves)),
        head(execution, of, leaves, elements.head),
        attention(execution, of, leaves, elements.attention),
        rest(execution, of, leaves, elements.rest),
        embedding(execution, of, leaves, elements.embedding),
        layers(static_cast<std::size_t>(config.num_layers)) {
    for (std::int64_t i = 0; i < kept_rows(config); ++i)
      rows.push_back(allocate<Real***>("gradient::rows", of.batch(), of.local_tokens(), config.hidden_dim));
    for (std::int64_t i = 0; i < kept_layers(config, which); ++i) activations.emplace_back(config, of, which);
  }
};

template <class Real>
std::int64_t ModelGradientBuffers<Real>::bytes(const ModelConfig& config, const Sequence& sequence,
                                               Recompute recompute) {
  const parallel::Leaves leaves(sequence);
  const SummedElements elements(config);
  std::int64_t sums = 0;
  for (const std::int64_t count : {elements.head, elements.attention, elements.rest, elements.embedding})
    sums += GradientSum<Real>::bytes(sequence, leaves, count);
  return kept_rows(config) * sequence.batch() * sequence.local_tokens() * config.hidden_dim *
             static_cast<std::int64_t>(sizeof(Real)) +
         kept_layers(config, recompute) * LayerActivations<Real>::bytes(config, sequence, recompute) +
         GradientWorkspace<Real>::bytes(config, sequence, local_leaves(sequence, leaves)) + sums;
}

}  // namespace bsbr
