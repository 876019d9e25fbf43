// Gated attention unit (Hua et al. 2022): one wide head, softmax within each chunk, the sum of the states of earlier
// chunks, and a gate.
#include <algorithm>

#include "architectures/gau/rule.hpp"
#include "attention/attention_class.hpp"
#include "attention/running_state.hpp"
#include "kernels/token_softmax.hpp"
#include "parallel/agree.hpp"

namespace bsbr::attention {
namespace {

/// o_t = σ(g_t) ⊙ (Σ_s softmax_s(q_t·k_s / √e over s ≤ t of the same chunk) v_s + q_t Σ_{j < c(t)} K_jᵀ V_j):
/// docs/mathematics.md.
template <class Real>
class Gau : public Attention<Real> {
 public:
  Gau(const ModelConfig& config, const Sequence& sequence);

  void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
               const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
               AttentionRecord<Real>* record) override;
  void backward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                const AttentionRecord<Real>& record, const Array<Real***>& output,
                const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                Profile* profile) override {
    (void)execution, (void)mask, (void)input, (void)record, (void)output, (void)output_gradient, (void)gradient,
        (void)profile;
    throw Error("TODO");
  }

  std::int64_t workspace_bytes() const override { return workspace_bytes(m_config, m_sequence); }
  static std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence);
  static std::int64_t scratch_bytes(const ModelConfig& config);

 private:
  ModelConfig m_config;
  Sequence m_sequence;
  RunningState<Real> m_state;
};

template <class Real>
Gau<Real>::Gau(const ModelConfig& config, const Sequence& sequence)
    : m_config(config), m_sequence(sequence), m_state(config, sequence, config.chunk_size, GauRule<Real>{}) {}

template <class Real>
std::int64_t Gau<Real>::workspace_bytes(const ModelConfig& config, const Sequence& sequence) {
  return RunningState<Real>::bytes(config, sequence, config.chunk_size, GauRule<Real>{});
}

template <class Real>
std::int64_t Gau<Real>::scratch_bytes(const ModelConfig& config) {
  const auto width = static_cast<int>(config.head_dim());
  return std::max(kernels::softmax_scratch_bytes<Real>(width, width),
                  kernels::scan_scratch_bytes<Real>(GauRule<Real>{}, width));
}

template <class Real>
void Gau<Real>::forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                        const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
                        AttentionRecord<Real>* /*record*/) {
  parallel::agree(execution, m_sequence, profile, [&] {
    require_input(m_config, m_sequence, mask, input, output, state);
    if (state != nullptr) m_state.require_state(*state);
  });
  poison_written(execution, input, output);
  const std::int64_t first = m_sequence.first_token();
  const auto keys = m_state.keys(execution, mask, input, state, profile);
  {
    const Phase phase(execution, profile, "within_chunk");
    const auto scale = kernels::score_scale<Real>(m_config.head_dim());
    kernels::token_softmax(execution, "bsbr::attention::within_chunk", m_config.num_heads,
                           kernels::WithinChunk{Causality::causal, m_config.chunk_size, m_sequence.end()}, scale,
                           input.query, keys, output, first, first, first + m_sequence.local_tokens());
  }
  m_state.scan(execution, mask, input, keys, GauRule<Real>{input.gate}, output, state, profile);
}

}  // namespace

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::gau>) {
  return class_of<Real, Gau<Real>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::gau>);
template AttentionClass<double> attention_class(Tag<Architecture::gau>);

}  // namespace bsbr::attention
