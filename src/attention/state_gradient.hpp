// The gradient of a state carried along the sequence: of linear, delta_net and, between chunks, gau.
#pragma once

#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

#include "attention/attention.hpp"
#include "attention/segment_scan.hpp"
#include "attention/step_halo.hpp"
#include "kernels/gradient_rows.hpp"
#include "kernels/scan_gradient.hpp"

namespace bsbr::attention {

/// What a gradient is formed of: arrays [batch, local tokens, num_heads · head_dim].
template <class Real>
struct StateGradientInput {
  Strided<const Real***> query, key, value, output_gradient;
  Strided<const Real***> output;  // of the forward, where a rule has extra columns
  Array<Real***> kept;            // what the rule has kept in the forward: [batch, local tokens, kept_elements]
};

/// The gradients, of the same shape; written, not added to. They overlap no array of the input.
template <class Real>
struct StateGradientOutput {
  Strided<Real***> query, key, value;
};

/// The formulas are those of kernels/scan_gradient.hpp. Each pass is a SegmentScan. Where a rank's border lies within a
/// step, each rank gets the rows of the others' tokens of its first step and of its last one.
template <class Real, class Rule>
class StateGradient {
 public:
  /// step: tokens of a step where they do not see their own; else tiles are as long as suits.
  StateGradient(const ModelConfig& config, const Sequence& sequence, const Rule& rule, std::int64_t step = 0)
      : m_sequence(sequence),
        m_rule(rule),
        m_plan(config, sequence, rule, step),
        m_queries(m_plan.queries, sequence),
        m_keys(m_plan.keys, sequence),
        m_values(m_plan.values, sequence),
        m_query_halo(halo(width())),
        m_key_halo(halo(width())),
        m_value_halo(halo(width())),
        m_output_halo(halo(width() + rule.extra_columns())),
        m_real_halo(sequence, m_plan.largest_step(), 1) {
    static_assert(kernels::HasGradient<Rule>, "a rule says whether it maps queries and keys");
    if constexpr (Rule::corrects_state) {
      m_kept_halo.emplace(halo(width()));
      m_value_gradient_halo.emplace(halo(width()));
    }
    if (rule.maps()) {
      m_mapped_queries = allocate_rows("mapped_queries", width());
      m_mapped_keys = allocate_rows("mapped_keys", width());
    }
    if (rule.extra_columns() > 0) m_output_gradient = allocate_rows("output_gradient", width() + rule.extra_columns());
  }

  /// What an object of these arguments allocates on this rank.
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, const Rule& rule,
                            std::int64_t step = 0) {
    const Plan plan(config, sequence, rule, step);
    const std::int64_t width = config.attention_dim(), with_extra = width + config.num_heads * rule.extra_columns();
    const auto of_halo = [&](std::int64_t elements) {
      return StepHalo<Real>::bytes(sequence, plan.largest_step(), elements);
    };
    const std::int64_t row = (rule.maps() ? 2 * width : 0) + (rule.extra_columns() > 0 ? with_extra : 0);
    return plan.queries.bytes(sequence) + plan.keys.bytes(sequence) + plan.values.bytes(sequence) +
           (Rule::corrects_state ? 5 : 3) * of_halo(width) + of_halo(with_extra) +
           StepHalo<std::uint8_t>::bytes(sequence, plan.largest_step(), 1) +
           sequence.batch() * sequence.local_tokens() * row * static_cast<std::int64_t>(sizeof(Real));
  }

  /// The most scratch that a team asks for, in bytes.
  static std::int64_t scratch_bytes(const ModelConfig& config, const Rule& rule) {
    const kernels::ScanParts parts = parts_of(config, 1, rule);
    return std::max({kernels::scan_scratch_bytes<Real, RowRule>(parts),
                     kernels::scan_scratch_bytes<Real, ValueRule>(without_extra(parts)),
                     kernels::composition_scratch_bytes<Real>(ValueRule{rule}, parts.width)});
  }

  /// Collective.
  void form(const Execution& execution, const PaddingMask& mask, const StateGradientInput<Real>& input,
            const StateGradientOutput<Real>& gradient, Profile* profile) {
    if (m_sequence.length() == 0) return;
    const Given given = prepare(execution, mask, input, profile);
    if constexpr (Rule::corrects_state) {
      form_adjoint(execution, given, gradient.value, profile);
      form_corrected(execution, given, gradient, profile);
    } else {
      form_sums(execution, given, gradient, profile);
    }
    if constexpr (kernels::maps_gradient<Rule>) {
      if (!m_rule.maps()) return;
      const Phase phase(execution, profile, "scan");
      kernels::unmap_gradient(execution, "bsbr::attention::query_gradient", m_rule, heads(), input.query, {},
                              gradient.query);
      kernels::unmap_gradient(execution, "bsbr::attention::key_gradient", m_rule, heads(), input.key, mask.tokens(),
                              gradient.key);
    }
  }

 private:
  using RowRule = kernels::RowRule<Rule>;
  using ValueRule = std::conditional_t<Rule::corrects_state, kernels::AdjointRule<Rule>, RowRule>;
  using Rows = kernels::GradientRows<Real>;

  static kernels::ScanParts parts_of(const ModelConfig& config, std::int64_t batch, const Rule& rule) {
    return {batch, config.num_heads, static_cast<int>(config.head_dim()), 0, rule.extra_columns()};
  }
  static kernels::ScanParts without_extra(kernels::ScanParts parts) {
    parts.extra_rows = 0;
    return parts;
  }

  /// How a pass is cut.
  struct PassPlan {
    kernels::ScanParts parts;
    std::int64_t step, elements;  // tokens of a step; of the sums of a segment
    bool mirrored;

    Segments segments(const Sequence& sequence) const { return {sequence, kernels::segment_tokens(step), mirrored}; }
    std::int64_t bytes(const Sequence& sequence) const {
      return SegmentScan<Real>::bytes(segments(sequence), sequence, parts, elements);
    }
  };

  /// The passes for dq, dk and dv.
  struct Plan {
    PassPlan queries, keys, values;

    Plan(const ModelConfig& config, const Sequence& sequence, const Rule& rule, std::int64_t step)
        : queries(plan<RowRule>(parts_of(config, sequence.batch(), rule), step, false)),
          keys(plan<RowRule>(parts_of(config, sequence.batch(), rule), step, true)),
          values(plan<ValueRule>(without_extra(queries.parts), step, true)) {}

    /// Of tiles, a larger one is a multiple of a smaller one; else all steps are the same.
    std::int64_t largest_step() const { return std::max({queries.step, keys.step, values.step}); }

   private:
    template <class PassRule>
    static PassPlan plan(const kernels::ScanParts& parts, std::int64_t step, bool mirrored) {
      if constexpr (PassRule::sees_own_step) step = kernels::tokens_of_scan_tile<Real, PassRule>(parts);
      return {parts, step, kernels::segment_elements<PassRule>(parts), mirrored};
    }
  };

  struct Pass {
    std::int64_t step;
    SegmentScan<Real> scan;

    Pass(const PassPlan& plan, const Sequence& sequence)
        : step(plan.step), scan(plan.segments(sequence), sequence, plan.parts, plan.elements) {}
  };

  /// What the passes read: rows, and which tokens are real.
  struct Given {
    Rows query, key, value, output_gradient, kept;
    Strided<const std::uint8_t***> real;
    std::int64_t real_origin;
  };

  int width() const { return m_plan.queries.parts.width; }
  std::int64_t heads() const { return m_plan.queries.parts.heads; }

  StepHalo<Real> halo(std::int64_t elements) const { return {m_sequence, m_plan.largest_step(), heads() * elements}; }

  /// [batch, local tokens, heads · elements]
  Array<Real***> allocate_rows(const char* label, std::int64_t elements) {
    const std::int64_t batch = m_sequence.batch(), tokens = m_sequence.local_tokens(), row = heads() * elements;
    const Array<Real*>& rows = m_memory.emplace_back(allocate<Real>(label, batch * tokens * row));
    return Array<Real***>(rows.data(), batch, tokens, row);
  }

  /// Queries and keys as the rule maps them, the gradient of what it was to store; each with its halo.
  Given prepare(const Execution& execution, const PaddingMask& mask, const StateGradientInput<Real>& input,
                Profile* profile) const {
    const int width = this->width();
    Given given{.query = {input.query, 0, width},
                .key = {input.key, 0, width},
                .value = {input.value, 0, width},
                .output_gradient = {input.output_gradient, 0, width},
                .kept = {input.kept, 0, width},
                .real = {},
                .real_origin = m_real_halo.first_token()};
    {
      const Phase phase(execution, profile, "scan");
      map(execution, input, given);
    }
    fetch(execution, m_query_halo, given.query, profile);
    fetch(execution, m_key_halo, given.key, profile);
    fetch(execution, m_value_halo, given.value, profile);
    fetch(execution, m_output_halo, given.output_gradient, profile);
    if constexpr (Rule::corrects_state) fetch(execution, *m_kept_halo, given.kept, profile);
    if (!mask.has_padding()) return given;
    const auto batch = static_cast<std::size_t>(m_sequence.batch()), tokens = mask.tokens().extent(1);
    const Strided<const std::uint8_t***> real(mask.tokens().data(),
                                              Kokkos::LayoutStride(batch, tokens, tokens, 1, 1, 1));
    given.real = m_real_halo.fetch(execution, real, profile);
    return given;
  }

  void map(const Execution& execution, const StateGradientInput<Real>& input, Given& given) const {
    const std::int64_t heads = this->heads();
    if (m_rule.maps()) {
      kernels::map_rows(execution, "bsbr::attention::map_queries", m_rule, heads, input.query, m_mapped_queries);
      kernels::map_rows(execution, "bsbr::attention::map_keys", m_rule, heads, input.key, m_mapped_keys);
      given.query.rows = m_mapped_queries;
      given.key.rows = m_mapped_keys;
    }
    if constexpr (kernels::stores_gradient<Rule>) {
      if (m_rule.extra_columns() == 0) return;
      Rule rule = m_rule;
      rule.keep_in(input.kept);
      kernels::unstore_gradient(execution, "bsbr::attention::output_gradient", rule, heads, input.output_gradient,
                                input.output, m_output_gradient);
      given.output_gradient.rows = m_output_gradient;
      given.output_gradient.width = width() + rule.extra_columns();
      given.value.ones = true;
    }
  }

  static void fetch(const Execution& execution, const StepHalo<Real>& halo, Rows& rows, Profile* profile) {
    rows.rows = halo.fetch(execution, rows.rows, profile);
    rows.origin = halo.first_token();
  }

  /// What all passes of one order have in common.
  template <class Tokens>
  Tokens tokens(const Pass& pass, const Given& given, const Strided<Real***>& output) const {
    const Segments& segments = pass.scan.segments();
    Tokens tokens;
    tokens.batch = m_sequence.batch();
    tokens.heads = heads();
    tokens.width = width();
    tokens.order = segments.order();
    tokens.first = segments.first_token();
    tokens.last = segments.end_token();
    tokens.origin = segments.origin();
    tokens.step = pass.step;
    tokens.real = given.real;
    tokens.real_origin = given.real_origin;
    tokens.output = output;
    tokens.output_origin = m_sequence.first_token();
    return tokens;
  }

  kernels::RowTokens<Real> row_tokens(const Pass& pass, const Given& given, const Rows& query, const Rows& key,
                                      const Rows& value, const Strided<Real***>& output) const {
    auto tokens = this->tokens<kernels::RowTokens<Real>>(pass, given, output);
    tokens.query = query;
    tokens.key = key;
    tokens.value = value;
    tokens.extra_rows = pass.scan.parts().extra_rows;
    tokens.masks_keys = !tokens.order.is_mirrored();  // of q_t k_s: k_s
    tokens.masks_results = tokens.order.is_mirrored();
    return tokens;
  }

  /// dq, dk, dv where u = v.
  void form_sums(const Execution& execution, const Given& given, const StateGradientOutput<Real>& gradient,
                 Profile* profile) {
    const RowRule rule{m_rule};
    m_queries.scan.scan(execution,
                        row_tokens(m_queries, given, given.output_gradient, given.value, given.key, gradient.query),
                        rule, nullptr, profile);
    m_keys.scan.scan(execution,
                     row_tokens(m_keys, given, given.value, given.output_gradient, given.query, gradient.key), rule,
                     nullptr, profile);
    m_values.scan.scan(execution,
                       row_tokens(m_values, given, given.key, given.query, given.output_gradient, gradient.value), rule,
                       nullptr, profile);
  }

  /// dv where u corrects the state.
  void form_adjoint(const Execution& execution, const Given& given, const Strided<Real***>& value_gradient,
                    Profile* profile) {
    auto tokens = this->tokens<kernels::AdjointTokens<Real>>(m_values, given, value_gradient);
    tokens.query = given.query;
    tokens.key = given.key;
    tokens.output_gradient = given.output_gradient;
    m_values.scan.scan(execution, tokens, ValueRule{m_rule}, nullptr, profile);
  }

  /// dq and dk, of u and dv.
  void form_corrected(const Execution& execution, const Given& given, const StateGradientOutput<Real>& gradient,
                      Profile* profile) {
    const RowRule rule{m_rule};
    Rows value_gradient{gradient.value, 0, width()};
    fetch(execution, *m_value_gradient_halo, value_gradient, profile);
    const auto scan = [&](Pass& pass, const kernels::RowTokens<Real>& tokens) {
      pass.scan.scan(execution, tokens, rule, nullptr, profile);
    };
    const auto subtract = [&](Pass& pass, kernels::RowTokens<Real> tokens) {
      tokens.masks_keys = tokens.masks_results = true;
      tokens.sees_itself = 0;
      tokens.adds = true;
      tokens.factor = -1;
      scan(pass, tokens);
    };
    const auto row_tokens = [&](const Pass& pass, const Rows& query, const Rows& key, const Rows& value,
                                const Strided<Real***>& output) {
      return this->row_tokens(pass, given, query, key, value, output);
    };
    scan(m_queries, row_tokens(m_queries, given.output_gradient, given.kept, given.key, gradient.query));
    scan(m_keys, row_tokens(m_keys, given.kept, given.output_gradient, given.query, gradient.key));
    subtract(m_keys, row_tokens(m_keys, given.kept, value_gradient, given.key, gradient.key));
    subtract(m_queries, row_tokens(m_queries, value_gradient, given.kept, given.key, gradient.key));
  }

  Sequence m_sequence;
  Rule m_rule;
  Plan m_plan;
  std::vector<Array<Real*>> m_memory;  // of the arrays below
  Array<Real***> m_mapped_queries, m_mapped_keys, m_output_gradient;
  Pass m_queries, m_keys, m_values;
  StepHalo<Real> m_query_halo, m_key_halo, m_value_halo, m_output_halo;
  std::optional<StepHalo<Real>> m_kept_halo, m_value_gradient_halo;  // where u corrects the state
  StepHalo<std::uint8_t> m_real_halo;
};

}  // namespace bsbr::attention
