// Attention that is a running state and nothing else: linear and delta_net.
#pragma once

#include "attention/attention.hpp"
#include "attention/running_state.hpp"
#include "parallel/agree.hpp"

namespace bsbr::attention {

/// Rule: one of kernels/state_scan.hpp that is made from a configuration. Its steps are tiles, whatever the chunk size:
/// the result has the same bits for all of them.
template <class Real, class Rule>
class StateAttention : public Attention<Real> {
 public:
  StateAttention(const ModelConfig& config, const Sequence& sequence)
      : m_config(config), m_sequence(sequence), m_state(config, sequence, step(config), Rule(config)) {}

  void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
               const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
               AttentionRecord<Real>* /*record*/) override {
    parallel::agree(execution, m_sequence, profile, [&] {
      require_input(m_config, m_sequence, mask, input, output, state);
      if (state != nullptr) m_state.require_state(*state);
    });
    poison_written(execution, input, output);
    const auto keys = m_state.keys(execution, mask, input, state, profile);
    m_state.scan(execution, mask, input, keys, Rule(m_config), output, state, profile);
  }

  void backward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                const AttentionRecord<Real>& record, const Array<Real***>& output,
                const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                Profile* profile) override {
    (void)execution, (void)mask, (void)input, (void)record, (void)output, (void)output_gradient, (void)gradient,
        (void)profile;
    throw Error("TODO");
  }

  std::int64_t workspace_bytes() const override { return workspace_bytes(m_config, m_sequence); }
  static std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence) {
    return RunningState<Real>::bytes(config, sequence, step(config), Rule(config));
  }
  static std::int64_t scratch_bytes(const ModelConfig& config) {
    const Rule rule(config);
    const auto width = static_cast<int>(config.head_dim());
    return std::max(kernels::scan_scratch_bytes<Real>(rule, width),
                    kernels::composition_scratch_bytes<Real>(rule, width));
  }

 private:
  static std::int64_t step(const ModelConfig& config) {
    return kernels::tokens_of_scan_tile<Real>(Rule(config), static_cast<int>(config.head_dim()));
  }

  ModelConfig m_config;
  Sequence m_sequence;
  RunningState<Real> m_state;
};

}  // namespace bsbr::attention
