// A state carried along the sequence, what linear, delta_net and gau have in common.
#pragma once

#include <algorithm>

#include "attention/attention.hpp"
#include "attention/key_halo.hpp"
#include "bsbr/partition.hpp"
#include "kernels/state_scan.hpp"
#include "parallel/carry.hpp"

namespace bsbr::attention {

/// o_t = q_t S and S ← S + Σ k_sᵀ u_s, step by step, as a Rule of kernels/state_scan.hpp has it.
///
/// Across ranks: the state goes from rank to rank in messages of some scan parts each ("carry"), so that ranks work on
/// different ones at the same time. Steps are cut at global positions, so a rank may begin within one: it then gets the
/// keys and values of the step's earlier tokens too ("halo"), and the state from before that step.
template <class Real>
class RunningState {
 public:
  /// step: tokens of one step; extra_columns: of the values, besides their own.
  RunningState(const ModelConfig& config, const Sequence& sequence, std::int64_t step, int extra_columns)
      : m_sequence(sequence),
        m_step(step),
        m_scan_parts(scan_parts_of(config, sequence, extra_columns)),
        m_keys(config, sequence, step_begin(sequence, step)) {
    if (carried_elements(m_scan_parts, sequence) == 0) return;
    m_before = allocate<Real>("state_before", carried_elements(m_scan_parts, sequence));
    m_after = allocate<Real>("state_after", carried_elements(m_scan_parts, sequence));
  }

  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, std::int64_t step, int extra_columns) {
    return KeyHalo<Real>::bytes(config, sequence, step_begin(sequence, step)) +
           2 * carried_elements(scan_parts_of(config, sequence, extra_columns), sequence) *
               static_cast<std::int64_t>(sizeof(Real));
  }

  /// Collective.
  template <class Rule>
  void scan(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input, const Rule& rule,
            const Array<Real***>& output, Profile* profile) {
    const std::int64_t first = m_sequence.first_token();
    const kernels::KeysAndValues<Real> keys = m_keys.start(execution, mask, input, profile);
    m_keys.finish(execution, profile);  // a step's keys: too few to be worth hiding
    const kernels::ScanTokens<Real> tokens{.query = input.query,
                                           .keys = keys,
                                           .output = output,
                                           .batch = m_scan_parts.batch,
                                           .heads = m_scan_parts.heads,
                                           .width = m_scan_parts.width,
                                           .first = first,
                                           .last = first + m_sequence.local_tokens(),
                                           .step = m_step};
    const auto scan_range = [&](std::int64_t begin, std::int64_t end, const Array<const Real*>& before) {
      const Phase phase(execution, profile, "scan");
      kernels::state_scan(execution, "bsbr::attention::scan", tokens, rule, begin, end - begin, before, m_after);
    };
    if (m_sequence.ranks() == 1) return scan_range(0, m_scan_parts.count(), {});
    carry(execution, scan_range, profile);
  }

 private:
  /// The ranks scan as a pipeline: each begins with a message's scan parts when the previous rank is done with them.
  ///
  ///     rank 0   scan 0 ─▶ scan 1 ─▶ scan 2
  ///                   ╲         ╲         ╲
  ///     rank 1         scan 0 ─▶ scan 1 ─▶ scan 2
  ///                         ╲         ╲         ╲
  ///     rank 2               scan 0 ─▶ scan 1 ─▶ scan 2
  ///
  /// A scan takes so many messages at once that its teams occupy all threads. m_before: what has come, m_after: what
  /// goes on.
  template <class Scan>
  void carry(const Execution& execution, const Scan& scan_range, Profile* profile) const {
    const Partition messages{
        m_scan_parts.count(),
        static_cast<int>(std::min(m_scan_parts.count(), std::int64_t{kernels::tuning::carry_messages}))};
    parallel::Carry<Real> carry(execution, m_sequence, m_before, m_after,
                                parallel::segments_of(messages, m_scan_parts.elements()));
    const Array<const Real*> before = carry.receives() ? m_before : Array<Real*>();
    const std::int64_t teams = kernels::concurrent_teams(execution);
    for (int begin = 0, end = 0; begin < messages.parts; begin = end) {
      end = begin + 1;
      while (end < messages.parts && messages.begin(end) - messages.begin(begin) < teams) ++end;
      {
        const Phase phase(execution, profile, "exchange");
        for (int message = begin; message < end; ++message) carry.wait_for(static_cast<std::size_t>(message));
      }
      scan_range(messages.begin(begin), messages.begin(end), before);
      const Phase phase(execution, profile, "exchange");
      execution.fence();
      for (int message = begin; message < end; ++message) carry.send(static_cast<std::size_t>(message));
    }
    const Phase phase(execution, profile, "exchange");
    carry.finish();
    if (profile != nullptr) profile->sent("state", carry.bytes_sent(), carry.messages_sent());
  }

  static parallel::FirstNeeded step_begin(const Sequence& sequence, std::int64_t step) {
    return [=](int rank) { return sequence.first_token_of(rank) / step * step; };
  }

  static kernels::ScanParts scan_parts_of(const ModelConfig& config, const Sequence& sequence, int extra_columns) {
    return {sequence.batch(), config.num_heads, static_cast<int>(config.head_dim()), extra_columns};
  }

  /// A single rank carries nothing anywhere.
  static std::int64_t carried_elements(const kernels::ScanParts& parts, const Sequence& sequence) {
    return sequence.ranks() == 1 ? 0 : parts.count() * parts.elements();
  }

  Sequence m_sequence;
  std::int64_t m_step;
  kernels::ScanParts m_scan_parts;
  KeyHalo<Real> m_keys;
  Array<Real*> m_before, m_after;  // all scan parts; without memory if there is one rank
};

}  // namespace bsbr::attention
