// The losses of tokens by a head whose blocks have been packed: for OutputLayer and gradients.
#pragma once

#include <vector>

#include "bsbr/loss.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/product.hpp"

namespace bsbr {

/// OutputLayer::losses of a model of this configuration.
/// \param head kernels::vocabulary_blocks of its matrix
/// \param panels of kernels::token_loss_width at least
template <class Real>
TokenLosses form_token_losses(const Execution& execution, const Sequence& sequence, const ModelConfig& config,
                              const std::vector<kernels::ProductWeight<Real>>& head,
                              const kernels::PanelBuffers<Real>& panels, const Array<const Real***>& hidden_states,
                              const Array<const std::int32_t**>& targets, Profile* profile);

}  // namespace bsbr
