// Softmax attention over earlier tokens, what standard, hopfield and sliding_window have in common.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>

#include "attention/head_gradient.hpp"
#include "attention/head_transpose.hpp"
#include "attention/kept_keys.hpp"
#include "attention/key_halo.hpp"
#include "attention/query_halo.hpp"
#include "attention/state_arrays.hpp"
#include "bsbr/attention.hpp"

namespace bsbr::attention {

/// In what the three differ.
struct SoftmaxParameters {
  double temperature = 1;                                          ///< divides the scores
  std::int64_t window = std::numeric_limits<std::int64_t>::max();  ///< tokens that are seen before the token itself
};

/// o_t = Σ_s softmax_s(q_t·k_s / (τ√d)) v_s over t − w ≤ s ≤ t, all that there is of it: docs/mathematics.md.
///
/// Across ranks: each gets the keys and values that its tokens see from the ranks before it ("halo"), or, where the
/// window reaches far back, some heads of all tokens ("heads").
template <class Real>
class SoftmaxAttention : public Attention<Real> {
 public:
  SoftmaxAttention(const ModelConfig& config, const Sequence& sequence, Rounding rounding,
                   const SoftmaxParameters& parameters);

  void move_to(const Sequence& sequence) override;
  void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
               const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
               AttentionRecord<Real>* record) override;
  void backward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                const AttentionRecord<Real>& record, const Array<Real***>& output,
                const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                Profile* profile) override;

  std::int64_t workspace_bytes() const override {
    return workspace_bytes(m_config, m_sequence, m_rounding, m_parameters);
  }
  static std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding,
                                      const SoftmaxParameters& parameters);
  static std::int64_t record_bytes(const ModelConfig& config, const Sequence& sequence,
                                   const SoftmaxParameters& parameters);
  static std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence,
                                     const SoftmaxParameters& parameters);
  static StateArrays<Real> state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens,
                                        Rounding rounding, const SoftmaxParameters& parameters) {
    return {batch, tokens, first_kept(tokens, parameters), key_elements(config, packs_rows<Real>(config, rounding))};
  }
  static std::int64_t scratch_bytes(const ModelConfig& config);
  static std::int64_t gradient_scratch_bytes(const ModelConfig& config);

 private:
  /// The first token that one at `position` sees.
  static std::int64_t first_kept(std::int64_t position, const SoftmaxParameters& parameters) {
    return position - std::min(position, parameters.window);
  }
  std::int64_t kept_from(std::int64_t position) const { return first_kept(position, m_parameters); }
  void attend_by_heads(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                       const Array<Real***>& output, AttentionRecord<Real>* record, Profile* profile);
  void attend_to_rows(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                      const Array<Real***>& output, AttentionState<Real>* state, AttentionRecord<Real>* record,
                      Profile* profile);
  void reserve(AttentionRecord<Real>& record) const;
  void gradient_by_heads(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                         const AttentionRecord<Real>& record, const Array<Real***>& output_gradient,
                         const AttentionGradient<Real>& gradient, Profile* profile);
  void gradient_of_rows(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                        const kernels::SoftmaxTokens<Real>& own, const AttentionGradient<Real>& gradient,
                        Profile* profile);

  ModelConfig m_config;
  Sequence m_sequence;
  Rounding m_rounding;
  SoftmaxParameters m_parameters;
  std::optional<HeadTranspose<Real>> m_heads;  // one of the two
  std::optional<KeyHalo<Real>> m_keys;
  // Where there has been a gradient: one of the two, and δ, [batch, heads, local tokens].
  std::optional<HeadGradient<Real>> m_head_gradient;
  std::optional<QueryHalo<Real>> m_queries;
  Array<Real***> m_deltas;
};

/// The same for the parameters that a mechanism takes from the configuration: Mechanism::parameters(config).
template <class Real, class Mechanism>
class SoftmaxAttentionOf : public SoftmaxAttention<Real> {
 public:
  SoftmaxAttentionOf(const ModelConfig& config, const Sequence& sequence, Rounding rounding)
      : SoftmaxAttention<Real>(config, sequence, rounding, Mechanism::parameters(config)) {}

  using SoftmaxAttention<Real>::workspace_bytes;
  static std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding) {
    return SoftmaxAttention<Real>::workspace_bytes(config, sequence, rounding, Mechanism::parameters(config));
  }
  static std::int64_t record_bytes(const ModelConfig& config, const Sequence& sequence) {
    return SoftmaxAttention<Real>::record_bytes(config, sequence, Mechanism::parameters(config));
  }
  static std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence) {
    return SoftmaxAttention<Real>::gradient_bytes(config, sequence, Mechanism::parameters(config));
  }
  static StateArrays<Real> state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens,
                                        Rounding rounding) {
    return SoftmaxAttention<Real>::state_arrays(config, batch, tokens, rounding, Mechanism::parameters(config));
  }
};

}  // namespace bsbr::attention
