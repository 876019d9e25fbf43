// One batch through a model, forwards and backwards: losses, and sums of gradients over its leaves.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/mask.hpp"
#include "bsbr/model.hpp"
#include "bsbr/profile.hpp"
#include "kernels/product.hpp"
#include "model/gradient_sums.hpp"
#include "model/layer_backward.hpp"
#include "model/pass_buffers.hpp"

namespace bsbr {

/// What a model with a head is made of, forwards and backwards. On a host matrices are repacked, both ways round.
template <class Real>
struct GradientModules {
  Weights<Real> weights;
  std::vector<Layer<Real>> layers;
  std::vector<LayerBackward<Real>> backward;
  std::vector<kernels::ProductWeight<Real>> head, transposed_head;  // blocks of the vocabulary

  /// Throws ConfigError if the model has no head, MemoryError.
  explicit GradientModules(const Weights<Real>& of_model);
  /// Of the repacked matrices.
  static std::int64_t bytes(const ModelConfig& config);

  /// The weights have other values: takes them.
  void repack(const Execution& execution);

  // Public because CUDA's compiler wants functions that hold kernels to be.
  void clear_padding(const Execution& execution, const PaddingMask& mask, const Array<const std::int32_t**>& targets,
                     const Array<Real***>& rows) const;
  void losses_of_leaf(const Execution& execution, const GradientWorkspace<Real>& workspace, const Array<Real**>& x,
                      const Array<const std::int32_t*>& targets, const Array<double*>& losses) const;
  void head_of_leaf(const Execution& execution, const GradientWorkspace<Real>& workspace, const Array<Real**>& x,
                    const Array<const std::int32_t*>& targets, double scale, const Array<double*>& losses,
                    const Array<Real*>& norm_sums, const Array<Real**>& head_sums) const;
};

/// What decides what a pass drops. By default nothing is dropped.
struct PassDropout {
  double probability = 0;
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  std::int64_t first_sequence = 0;  // that of row 0, among all of a step
};

/// What a pass is given, of this rank's tokens.
struct PassInput {
  Array<const std::int32_t**> ids, targets;  // [batch, local tokens]: within the vocabulary; targets or no_target
  PaddingMask mask;
  double scale;                  // what the losses of tokens are multiplied with in the loss that is differentiated
  Array<double**> token_losses;  // [batch, local tokens]: written; 0 where there is no target
  std::int64_t first_leaf = 0;   // the batch's leaves are counted from here
  PassDropout dropout{};
};

/// Forward, loss and backward. Collective over the sequence's communicator. The profile may be null.
template <class Real>
void run_pass(const GradientModules<Real>& modules, PassBuffers<Real>& buffers, const Execution& execution,
              const PassInput& input, GradientSums<Real>& sums, Profile* profile);

/// Forward and loss alone: `scale` and `first_leaf` of the input do not matter. Collective likewise.
template <class Real>
void run_losses(const GradientModules<Real>& modules, PassBuffers<Real>& buffers, const Execution& execution,
                const PassInput& input, Profile* profile);

}  // namespace bsbr
