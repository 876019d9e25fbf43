// A state carried along the sequence, what linear, delta_net and gau have in common.
#pragma once

#include <bit>

#include "attention/attention.hpp"
#include "attention/kept_keys.hpp"
#include "attention/key_halo.hpp"
#include "attention/segment_scan.hpp"
#include "attention/state_arrays.hpp"
#include "kernels/state_scan.hpp"

namespace bsbr::attention {

/// o_t = q_t S and S ← S + Σ k_sᵀ u_s, step by step, as a Rule of kernels/state_scan.hpp has it, by a SegmentScan. A
/// rank may begin within a step: it then gets the keys and values of the step's earlier tokens ("halo").
template <class Real>
class RunningState {
 public:
  /// step: tokens of one step; of a Rule.
  template <class Rule>
  RunningState(const ModelConfig& config, const Sequence& sequence, Rounding rounding, std::int64_t step,
               const Rule& rule)
      : m_sequence(sequence),
        m_key_elements(key_elements(config, packs_rows<Real>(config, rounding))),
        m_step(step),
        m_keys(config, sequence, packs_rows<Real>(config, rounding), step_begin(sequence, step)),
        m_scan({sequence, kernels::segment_tokens(step)}, sequence, parts_of(config, sequence.batch(), rule),
               kernels::segment_elements<Rule>(parts_of(config, sequence.batch(), rule))) {}

  /// That of another sequence.
  void move_to(const Sequence& sequence) {
    m_sequence = sequence;
    m_keys.move_to(sequence, step_begin(sequence, m_step));
    m_scan.move_to({sequence, m_scan.segments().tokens()}, sequence);
  }

  template <class Rule>
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding, std::int64_t step,
                            const Rule& rule) {
    const kernels::ScanParts parts = parts_of(config, sequence.batch(), rule);
    return KeyHalo<Real>::bytes(config, sequence, packs_rows<Real>(config, rounding), step_begin(sequence, step)) +
           SegmentScan<Real>::bytes({sequence, kernels::segment_tokens(step)}, sequence, parts,
                                    kernels::segment_elements<Rule>(parts));
  }

  template <class Rule>
  static StateArrays<Real> state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens,
                                        Rounding rounding, std::int64_t step, const Rule& rule) {
    using State = AttentionState<Real>;
    const kernels::ScanParts parts = parts_of(config, batch, rule);
    const std::int64_t elements = kernels::segment_elements<Rule>(parts), segment = kernels::segment_tokens(step);
    const auto nodes = std::int64_t{std::popcount(static_cast<std::uint64_t>(tokens / segment))};
    StateArrays<Real> arrays(batch, tokens, tokens / step * step,
                             key_elements(config, packs_rows<Real>(config, rounding)));
    arrays.add({"sums", &State::sums, {nodes, elements}});
    arrays.add({"states", &State::states, {nodes, parts.total()}});
    if (tokens % segment == 0) return arrays;
    arrays.add({"sum", &State::sum, {elements}});
    arrays.add({"state", &State::state, {parts.total()}});
    return arrays;
  }

  /// Throws ShapeError unless the state is one of this scan, of the tokens before the sequence.
  void require_state(const AttentionState<Real>& state) const {
    require_kept_keys(m_sequence, m_key_elements, step_begin(m_sequence, m_step)(0), state);
    m_scan.require_state(state);
  }

  /// Keys and values from the beginning of the step on that this rank's first token is in. Collective.
  kernels::KeysAndValues<Real> keys(const Execution& execution, const PaddingMask& mask,
                                    const AttentionInput<Real>& input, AttentionState<Real>* state, Profile* profile) {
    const kernels::KeysAndValues<Real> keys = m_keys.start(execution, mask, input, state, profile);
    m_keys.finish(execution, profile);  // a step's keys: too few to be worth hiding
    return keys;
  }

  /// state: of the tokens before the sequence, which becomes that of all up to its end; null: the sequence begins, and
  /// nothing is kept. Collective.
  template <class Rule>
  void scan(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
            const kernels::KeysAndValues<Real>& keys, const Rule& rule, const Array<Real***>& output,
            AttentionState<Real>* state, Profile* profile) {
    if (m_sequence.length() == 0) return;
    const std::int64_t first = m_sequence.first_token();
    const kernels::ScanParts& parts = m_scan.parts();
    const kernels::ScanTokens<Real> tokens{.query = {input.query, input.packed},
                                           .keys = keys,
                                           .output = output,
                                           .batch = parts.batch,
                                           .heads = parts.heads,
                                           .width = parts.width,
                                           .first = first,
                                           .last = first + m_sequence.local_tokens(),
                                           .step = m_step};
    m_scan.scan(execution, tokens, rule, state, profile);
    if (state == nullptr) return;
    m_keys.keep(execution, mask, input, m_sequence.end() / m_step * m_step, *state, profile);
    state->tokens = m_sequence.end();
  }

 private:
  static parallel::FirstNeeded step_begin(const Sequence& sequence, std::int64_t step) {
    return [=](int rank) { return sequence.first_token_of(rank) / step * step; };
  }

  template <class Rule>
  static kernels::ScanParts parts_of(const ModelConfig& config, std::int64_t batch, const Rule& rule) {
    return {batch, config.num_heads, static_cast<int>(config.head_dim()), rule.extra_columns()};
  }

  Sequence m_sequence;
  std::int64_t m_key_elements, m_step;
  KeyHalo<Real> m_keys;
  SegmentScan<Real> m_scan;
};

}  // namespace bsbr::attention
