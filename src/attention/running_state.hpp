// A state carried along the sequence, what linear, delta_net and gau have in common.
#pragma once

#include <algorithm>

#include "attention/key_halo.hpp"
#include "bsbr/error.hpp"
#include "kernels/state_scan.hpp"
#include "parallel/carry.hpp"

namespace bsbr::attention {

/// o_t = q_t S and S ← S + Σ k_sᵀ u_s, step by step, as a Rule of kernels/state_scan.hpp has it.
///
/// Across ranks: the state goes from rank to rank. Steps are cut at global positions, so a rank may begin within one: it then gets the
/// keys and values of the step's earlier tokens too ("halo"), and the state from before that step.
template <class Real>
class RunningState {
 public:
  /// step: tokens of one step; extra_columns: of the values, besides their own.
  RunningState(const ModelConfig& config, const Sequence& sequence, std::int64_t step, int extra_columns)
      : m_config(config), m_sequence(sequence), m_step(step), m_keys(config, sequence, step_begin(sequence, step)) {
    const std::int64_t numbers = carried_numbers(config, sequence, extra_columns);
    if (numbers == 0) return;
    try {
      m_before = Array<Real*>("bsbr::attention::state_before", numbers);
      m_after = Array<Real*>("bsbr::attention::state_after", numbers);
    } catch (const std::exception& error) {
      throw MemoryError("no memory for " + std::to_string(numbers) + " numbers of running states: " + error.what());
    }
  }

  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, std::int64_t step, int extra_columns) {
    return KeyHalo<Real>::bytes(config, sequence, step_begin(sequence, step)) +
           2 * carried_numbers(config, sequence, extra_columns) * static_cast<std::int64_t>(sizeof(Real));
  }

  /// Collective.
  template <class Rule>
  void scan(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input, const Rule& rule,
            const Array<Real***>& output, Profile* profile) const {
    const std::int64_t first = m_sequence.first_token();
    const kernels::ScanTokens<Real> tokens{.query = input.query,
                                           .keys = m_keys.gather(execution, mask, input, profile),
                                           .output = output,
                                           .batch = m_sequence.batch(),
                                           .heads = m_config.num_heads,
                                           .width = static_cast<int>(m_config.head_dim()),
                                           .first = first,
                                           .last = first + m_sequence.local_tokens(),
                                           .step = m_step};
    const auto scan_from = [&](const Array<const Real*>& before) {
      const Phase phase(execution, profile, "scan");
      kernels::state_scan(execution, "bsbr::attention::scan", tokens, rule, before, m_after);
    };
    if (m_sequence.ranks() == 1) return scan_from({});
    bool continues = false;
    {
      const Phase phase(execution, profile, "exchange");
      continues = parallel::receive_state(execution, m_sequence, m_before);
    }
    scan_from(continues ? m_before : Array<Real*>());
    const Phase phase(execution, profile, "exchange");
    parallel::send_state<Real>(execution, m_sequence, m_after, profile);
  }

 private:
  static parallel::FirstNeeded step_begin(const Sequence& sequence, std::int64_t step) {
    return [=](int rank) { return sequence.first_token_of(rank) / step * step; };
  }

  /// A single rank carries nothing anywhere.
  static std::int64_t carried_numbers(const ModelConfig& config, const Sequence& sequence, int extra_columns) {
    return sequence.ranks() == 1 ? 0 : kernels::state_numbers(sequence.batch(), config.num_heads, config.head_dim(), extra_columns);
  }

  ModelConfig m_config;
  Sequence m_sequence;
  std::int64_t m_step;
  KeyHalo<Real> m_keys;
  Array<Real*> m_before, m_after;  // states of all heads; without memory if there is one rank
};

}  // namespace bsbr::attention
