// Gated attention unit (Hua et al. 2022): one wide head, softmax within each chunk, the sum of the states of earlier chunks, and a gate.
#pragma once

#include "attention/running_state.hpp"
#include "bsbr/attention.hpp"

namespace bsbr::attention {

/// o_t = σ(g_t) ⊙ (Σ_s softmax_s(q_t·k_s / √e over s ≤ t of the same chunk) v_s + q_t Σ_{j < c(t)} K_jᵀ V_j): docs/mathematics.md.
template <class Real>
class Gau : public Attention<Real> {
 public:
  Gau(const ModelConfig& config, const Sequence& sequence);

  void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input, const Array<Real***>& output,
               Profile* profile) override;

  std::int64_t workspace_bytes() const override { return workspace_bytes(m_config, m_sequence); }
  static std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence);
  static std::int64_t scratch_bytes(const ModelConfig& config);

 private:
  ModelConfig m_config;
  Sequence m_sequence;
  RunningState<Real> m_state;
};

}  // namespace bsbr::attention
