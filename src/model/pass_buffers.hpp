// What a pass over a batch, forwards and backwards, takes memory for: one list for allocation and prediction.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bsbr/gradient.hpp"
#include "model/allocate.hpp"
#include "model/layer_backward.hpp"

namespace bsbr {

/// What a pass over a batch takes, of one shape of sequence.
template <class Real>
struct PassBuffers {
  Sequence sequence;
  Recompute recompute;
  std::vector<Array<Real***>> rows;  // [batch, local tokens, hidden_dim]
  std::vector<LayerActivations<Real>> activations;
  GradientWorkspace<Real> workspace;

  /// Not collective. Throws MemoryError.
  PassBuffers(const ModelConfig& config, const Sequence& of, const parallel::Leaves& leaves, Recompute which)
      : sequence(of),
        recompute(which),
        workspace(config, of, local_leaves(of, leaves)),
        layers(static_cast<std::size_t>(config.num_layers)) {
    for (std::int64_t i = 0; i < kept_rows(config); ++i)
      rows.push_back(allocate<Real***>("gradient::rows", of.batch(), of.local_tokens(), config.hidden_dim));
    for (std::int64_t i = 0; i < kept_layers(config, which); ++i) activations.emplace_back(config, of, which);
  }

  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, const parallel::Leaves& leaves,
                            Recompute recompute) {
    return kept_rows(config) * sequence.batch() * sequence.local_tokens() * config.hidden_dim *
               static_cast<std::int64_t>(sizeof(Real)) +
           kept_layers(config, recompute) * LayerActivations<Real>::bytes(config, sequence, recompute) +
           GradientWorkspace<Real>::bytes(config, sequence, local_leaves(sequence, leaves));
  }

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
};

}  // namespace bsbr
