// Attention that is a running state and nothing else: linear and delta_net.
#pragma once

#include <algorithm>
#include <optional>

#include "attention/attention.hpp"
#include "attention/running_state.hpp"
#include "attention/state_gradient.hpp"
#include "kernels/head_norm.hpp"
#include "parallel/agree.hpp"

namespace bsbr::attention {

/// Rule: one of kernels/state_scan.hpp that is made from a configuration. Its steps are tiles, whatever the chunk size:
/// the result has the same bits for all of them.
template <class Real, class Rule>
class StateAttention : public Attention<Real> {
 public:
  StateAttention(const ModelConfig& config, const Sequence& sequence, Rounding rounding)
      : m_config(config),
        m_sequence(sequence),
        m_rounding(rounding),
        m_state(config, sequence, rounding, step(config), Rule(config)) {}

  void move_to(const Sequence& sequence) override {
    m_sequence = sequence;
    m_state.move_to(sequence);
    m_gradient.reset();
  }

  void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
               const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
               AttentionRecord<Real>* record) override {
    parallel::agree(execution, m_sequence, profile, [&] {
      require_input(m_config, m_sequence, packs_rows<Real>(m_config, m_rounding), mask, input, output, state);
      if (state != nullptr) m_state.require_state(*state);
      if (record == nullptr) return;
      reserve_rows(record->kept, "record", m_sequence, kept_elements(m_config));
      if (norms_results(m_config)) reserve_rows(record->unnormed, "unnormed", m_sequence, m_config.attention_dim());
    });
    poison_written(execution, input, output);
    Rule rule(m_config);
    if constexpr (requires { rule.keep_in(record->kept); })
      if (record != nullptr) rule.keep_in(record->kept);
    const auto keys = m_state.keys(execution, mask, input, state, profile);
    const bool norms = norms_results(m_config);
    const Array<Real***> results = norms && record != nullptr ? record->unnormed : output;
    m_state.scan(execution, mask, input, keys, rule, results, state, profile);
    if (!norms) return;
    const Phase phase(execution, profile, "scan");
    kernels::norm_heads<Real>(execution, "bsbr::attention::norm_heads", m_config.num_heads, results, output);
  }

  void backward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                const AttentionRecord<Real>& record, const Array<Real***>& output,
                const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                Profile* profile) override {
    parallel::agree(execution, m_sequence, profile, [&] {
      require_input(m_config, m_sequence, false, mask, input, output, static_cast<AttentionState<Real>*>(nullptr));
      if (!m_gradient) m_gradient.emplace(m_config, m_sequence, Rule(m_config));
      if (norms_results(m_config))
        reserve_rows(m_unnormed_gradient, "unnormed_gradient", m_sequence, m_config.attention_dim());
    });
    const StateGradientOutput<Real> target{gradient.query, gradient.key, gradient.value};
    if (!norms_results(m_config)) {
      return m_gradient->form(execution, mask,
                              {input.query, input.key, input.value, output_gradient, output, record.kept}, target,
                              profile);
    }
    {
      const Phase phase(execution, profile, "scan");
      kernels::norm_heads_gradient<Real>(execution, "bsbr::attention::norm_heads_gradient", m_config.num_heads,
                                         record.unnormed, output_gradient, m_unnormed_gradient);
    }
    m_gradient->form(execution, mask,
                     {input.query, input.key, input.value, m_unnormed_gradient, record.unnormed, record.kept}, target,
                     profile);
  }

  bool gradient_reads_output() const override { return gradient_reads_output(m_config); }
  /// Where a normaliser divides what the rule has summed up.
  static bool gradient_reads_output(const ModelConfig& config) { return Rule(config).extra_columns() > 0; }

  std::int64_t workspace_bytes() const override { return workspace_bytes(m_config, m_sequence, m_rounding); }
  static std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding) {
    return RunningState<Real>::bytes(config, sequence, rounding, step(config), Rule(config));
  }
  static StateArrays<Real> state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens,
                                        Rounding rounding) {
    return RunningState<Real>::state_arrays(config, batch, tokens, rounding, step(config), Rule(config));
  }
  static std::int64_t scratch_bytes(const ModelConfig& config) {
    const Rule rule(config);
    const auto width = static_cast<int>(config.head_dim());
    return std::max(kernels::scan_scratch_bytes<Real>(rule, width),
                    kernels::composition_scratch_bytes<Real>(rule, width));
  }

  static std::int64_t record_bytes(const ModelConfig& config, const Sequence& sequence) {
    return sequence.batch() * sequence.local_tokens() * kept_elements(config) *
               static_cast<std::int64_t>(sizeof(Real)) +
           unnormed_bytes<Real>(config, sequence);
  }
  static std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence) {
    return StateGradient<Real, Rule>::bytes(config, sequence, Rule(config)) + unnormed_bytes<Real>(config, sequence);
  }
  static std::int64_t gradient_scratch_bytes(const ModelConfig& config) {
    return StateGradient<Real, Rule>::scratch_bytes(config, Rule(config));
  }

 private:
  /// Elements of each token that the gradient needs of a forward besides its output.
  static std::int64_t kept_elements(const ModelConfig& config) {
    if constexpr (requires { Rule::kept_elements(config); }) return Rule::kept_elements(config);
    return 0;
  }

  static std::int64_t step(const ModelConfig& config) {
    return kernels::tokens_of_scan_tile<Real>(Rule(config), static_cast<int>(config.head_dim()));
  }

  ModelConfig m_config;
  Sequence m_sequence;
  Rounding m_rounding;
  RunningState<Real> m_state;
  std::optional<StateGradient<Real, Rule>> m_gradient;
  Array<Real***> m_unnormed_gradient;  // with a norm, [batch, local tokens, attention_dim]: of what is normed
};

}  // namespace bsbr::attention
