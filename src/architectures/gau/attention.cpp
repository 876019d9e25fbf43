// Gated attention unit (Hua et al. 2022): one wide head, softmax within each chunk, the sum of the states of earlier
// chunks, and a gate.
#include <algorithm>
#include <memory>

#include "architectures/gau/rule.hpp"
#include "attention/attention_class.hpp"
#include "attention/running_state.hpp"
#include "attention/state_gradient.hpp"
#include "kernels/head_norm.hpp"
#include "kernels/token_softmax_gradient.hpp"
#include "parallel/agree.hpp"

namespace bsbr::attention {
namespace {

/// o_t = σ(g_t) ⊙ (Σ_s softmax_s(q_t·k_s / √e over s ≤ t of the same chunk) v_s + q_t Σ_{j < c(t)} K_jᵀ V_j):
/// docs/mathematics.md.
template <class Real>
class Gau : public Attention<Real> {
 public:
  Gau(const ModelConfig& config, const Sequence& sequence, Rounding rounding);

  void move_to(const Sequence& sequence) override {
    m_sequence = sequence;
    m_state.move_to(sequence);
    m_gradient.reset();
  }

  void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
               const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
               AttentionRecord<Real>* record) override;
  void backward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                const AttentionRecord<Real>& record, const Array<Real***>& output,
                const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                Profile* profile) override;

  std::int64_t workspace_bytes() const override { return workspace_bytes(m_config, m_sequence, m_rounding); }
  static std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding);
  static std::int64_t record_bytes(const ModelConfig& config, const Sequence& sequence) {
    return unnormed_bytes<Real>(config, sequence);
  }
  static std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence);
  static StateArrays<Real> state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens,
                                        Rounding rounding) {
    return RunningState<Real>::state_arrays(config, batch, tokens, rounding, config.chunk_size, GauRule<Real>{});
  }
  static std::int64_t scratch_bytes(const ModelConfig& config);
  static std::int64_t gradient_scratch_bytes(const ModelConfig& config);

  // Steps. Public because CUDA's compiler wants functions that hold kernels to be.
  void apply_gate(const Execution& execution, const AttentionInput<Real>& input, const Array<Real***>& output) const;
  void gate_gradient(const Execution& execution, const AttentionInput<Real>& input, const Array<Real***>& output,
                     const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient) const;
  void within_chunk_gradient(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                             const AttentionGradient<Real>& gradient) const;
  void average_rows(const Execution& execution, const PaddingMask& mask, const Strided<const Real***>& rows,
                    const Array<Real***>& averaged) const;
  void add_between(const Execution& execution, const AttentionGradient<Real>& gradient) const;

 private:
  struct GradientBuffers;

  kernels::WithinChunk visible() const { return {Causality::causal, m_config.chunk_size, m_sequence.end()}; }

  ModelConfig m_config;
  Sequence m_sequence;
  Rounding m_rounding;
  RunningState<Real> m_state;
  std::shared_ptr<GradientBuffers> m_gradient;  // where there has been a gradient
};

/// What only gradients need.
template <class Real>
struct Gau<Real>::GradientBuffers {
  StateGradient<Real, GauRule<Real>> between;
  Array<Real***> gated;              // [batch, local tokens, e]: the gradient of what the gate is applied to
  Array<Real***> averaged;           // [batch, local tokens, e], where states are means: values by their number
  Array<Real***> query, key, value;  // [batch, local tokens, e]: gradients between chunks
  Array<Real***> log_sums, deltas;   // [batch, 1, local tokens]: within chunks

  GradientBuffers(const ModelConfig& config, const Sequence& sequence)
      : between(config, sequence, GauRule<Real>{}, config.chunk_size) {
    const std::int64_t width = config.attention_dim();
    for (auto* rows : {&gated, &query, &key, &value}) reserve_rows(*rows, "gradient_rows", sequence, width);
    if (averages_states(config)) reserve_rows(averaged, "averaged_values", sequence, width);
    for (auto* numbers : {&log_sums, &deltas}) {
      *numbers =
          Array<Real***>("bsbr::attention::log_sums", sequence.batch(), config.num_heads, sequence.local_tokens());
    }
  }
};

template <class Real>
Gau<Real>::Gau(const ModelConfig& config, const Sequence& sequence, Rounding rounding)
    : m_config(config),
      m_sequence(sequence),
      m_rounding(rounding),
      m_state(config, sequence, rounding, config.chunk_size, GauRule<Real>{}) {}

template <class Real>
std::int64_t Gau<Real>::workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding) {
  return RunningState<Real>::bytes(config, sequence, rounding, config.chunk_size, GauRule<Real>{});
}

template <class Real>
std::int64_t Gau<Real>::scratch_bytes(const ModelConfig& config) {
  const auto width = static_cast<int>(config.head_dim());
  return std::max(kernels::softmax_scratch_bytes<Real>(width, width),
                  kernels::scan_scratch_bytes<Real>(GauRule<Real>{}, width));
}

template <class Real>
std::int64_t Gau<Real>::gradient_bytes(const ModelConfig& config, const Sequence& sequence) {
  const std::int64_t token = (averages_states(config) ? 5 : 4) * config.attention_dim() + 2 * config.num_heads;
  return StateGradient<Real, GauRule<Real>>::bytes(config, sequence, GauRule<Real>{}, config.chunk_size) +
         sequence.batch() * sequence.local_tokens() * token * static_cast<std::int64_t>(sizeof(Real));
}

template <class Real>
std::int64_t Gau<Real>::gradient_scratch_bytes(const ModelConfig& config) {
  const auto width = static_cast<int>(config.head_dim());
  return std::max(kernels::softmax_gradient_scratch_bytes<Real>(width, width),
                  StateGradient<Real, GauRule<Real>>::scratch_bytes(config, GauRule<Real>{}));
}

template <class Real>
void Gau<Real>::forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                        const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
                        AttentionRecord<Real>* record) {
  parallel::agree(execution, m_sequence, profile, [&] {
    require_input(m_config, m_sequence, packs_rows<Real>(m_config, m_rounding), mask, input, output, state);
    if (record != nullptr && norms_results(m_config))
      reserve_rows(record->unnormed, "unnormed", m_sequence, m_config.attention_dim());
    if (state != nullptr) m_state.require_state(*state);
  });
  poison_written(execution, input, output);
  const std::int64_t first = m_sequence.first_token();
  const auto keys = m_state.keys(execution, mask, input, state, profile);
  const bool norms = norms_results(m_config);
  const Array<Real***> sums = norms && record != nullptr ? record->unnormed : output;  // within + between
  {
    const Phase phase(execution, profile, "within_chunk");
    const auto scale = kernels::score_scale<Real>(m_config.head_dim());
    kernels::token_softmax(execution, "bsbr::attention::within_chunk", m_config.num_heads, visible(), scale,
                           {input.query, input.packed}, keys, sums, first, first, first + m_sequence.local_tokens());
  }
  const GauRule<Real> rule{norms ? Strided<const Real***>() : input.gate, averages_states(m_config)};
  m_state.scan(execution, mask, input, keys, rule, sums, state, profile);
  if (!norms) return;
  const Phase phase(execution, profile, "scan");
  kernels::norm_heads<Real>(execution, "bsbr::attention::norm_heads", m_config.num_heads, sums, output);
  apply_gate(execution, input, output);
}

/// o = σ(g) ⊙ y, where the scan has not done so: y is what the norm has left in the output.
template <class Real>
void Gau<Real>::apply_gate(const Execution& execution, const AttentionInput<Real>& input,
                           const Array<Real***>& output) const {
  const std::int64_t width = m_config.attention_dim(), tokens = m_sequence.local_tokens();
  const auto gate = input.gate;
  Kokkos::parallel_for(
      "bsbr::attention::gate", kernels::team_policy(execution, m_sequence.batch() * tokens, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t row = member.league_rank() / tokens, t = member.league_rank() % tokens;
        const Real* g = &gate(row, t, 0);
        Real* y = &output(row, t, 0);
        kernels::for_each(kernels::as_team(member), static_cast<int>(width),
                          [&](const int i) { y[i] = kernels::sigmoid(g[i]) * y[i]; });
      });
}

/// o = σ(g) ⊙ a: dg = do ⊙ a ⊙ σ(g) (1 − σ(g)) = do ⊙ o ⊙ (1 − σ(g)), da = do ⊙ σ(g)
template <class Real>
void Gau<Real>::gate_gradient(const Execution& execution, const AttentionInput<Real>& input,
                              const Array<Real***>& output, const Array<Real***>& output_gradient,
                              const AttentionGradient<Real>& gradient) const {
  const std::int64_t width = m_config.attention_dim(), tokens = m_sequence.local_tokens();
  const auto gate = input.gate;
  const auto gate_gradients = gradient.gate;
  const Array<Real***> gated = m_gradient->gated;
  Kokkos::parallel_for(
      "bsbr::attention::gate_gradient", Kokkos::RangePolicy<Execution>(execution, 0, m_sequence.batch() * tokens),
      KOKKOS_LAMBDA(const std::int64_t index) {
        const std::int64_t row = index / tokens, t = index % tokens;
        for (std::int64_t i = 0; i < width; ++i) {
          const Real open = kernels::sigmoid(gate(row, t, i)), given = output_gradient(row, t, i);
          gate_gradients(row, t, i) = given * output(row, t, i) * (Real(1) - open);
          gated(row, t, i) = given * open;
        }
      });
}

/// dq, dk and dv within chunks, written. The results are formed anew, since the output has more in it; they take the
/// place of dq until this is written.
template <class Real>
void Gau<Real>::within_chunk_gradient(const Execution& execution, const PaddingMask& mask,
                                      const AttentionInput<Real>& input,
                                      const AttentionGradient<Real>& gradient) const {
  const std::int64_t first = m_sequence.first_token(), last = first + m_sequence.local_tokens(),
                     heads = m_config.num_heads;
  const auto scale = kernels::score_scale<Real>(m_config.head_dim());
  const GradientBuffers& buffers = *m_gradient;
  const kernels::KeysAndValues<Real> keys{input.key, input.value, mask.tokens(), first};
  kernels::token_softmax_with_log_sums(execution, "bsbr::attention::within_chunk", heads, visible(), scale, input.query,
                                       keys, gradient.query, buffers.log_sums, first, first, last);
  kernels::token_deltas<Real>(execution, "bsbr::attention::deltas", gradient.query, buffers.gated, buffers.deltas);
  const kernels::SoftmaxTokens<Real> tokens{input.query, buffers.gated, buffers.log_sums, buffers.deltas, first, keys};
  kernels::token_query_gradients(execution, "bsbr::attention::query_gradients", heads, visible(), scale, tokens,
                                 gradient.query, first, first, last);
  kernels::token_key_gradients(execution, "bsbr::attention::key_gradients", heads, visible(), scale, tokens,
                               gradient.key, gradient.value, first, first, last);
}

/// averaged = rows / n of each token, n real tokens of its chunk: Kᵀ V / n is the state of keys k and values v / n.
template <class Real>
void Gau<Real>::average_rows(const Execution& execution, const PaddingMask& mask, const Strided<const Real***>& rows,
                             const Array<Real***>& averaged) const {
  const std::int64_t tokens = m_sequence.local_tokens(), chunks = m_sequence.local_chunks(), size = m_config.chunk_size;
  const auto real = mask.tokens();
  const int width = static_cast<int>(m_config.attention_dim());
  Kokkos::parallel_for(
      "bsbr::attention::average_rows", kernels::team_policy(execution, m_sequence.batch() * chunks, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t row = member.league_rank() / chunks, begin = member.league_rank() % chunks * size;
        const std::int64_t end = begin + size < tokens ? begin + size : tokens;
        const Real share = kernels::share_of_token<Real>(real.data() == nullptr ? nullptr : &real(row, 0), begin, end);
        for (std::int64_t t = begin; t < end; ++t) {
          const Real* from = &rows(row, t, 0);
          Real* to = &averaged(row, t, 0);
          kernels::for_each(kernels::as_team(member), width, [&](const int i) { to[i] = share * from[i]; });
        }
      });
}

/// Adds the gradients between chunks to those within them.
template <class Real>
void Gau<Real>::add_between(const Execution& execution, const AttentionGradient<Real>& gradient) const {
  const std::int64_t width = m_config.attention_dim(), tokens = m_sequence.local_tokens();
  const Array<const Real***> query = m_gradient->query, key = m_gradient->key, value = m_gradient->value;
  const auto queries = gradient.query, keys = gradient.key, values = gradient.value;
  Kokkos::parallel_for(
      "bsbr::attention::add_between", Kokkos::RangePolicy<Execution>(execution, 0, m_sequence.batch() * tokens),
      KOKKOS_LAMBDA(const std::int64_t index) {
        const std::int64_t row = index / tokens, t = index % tokens;
        for (std::int64_t i = 0; i < width; ++i) {
          queries(row, t, i) += query(row, t, i);
          keys(row, t, i) += key(row, t, i);
          values(row, t, i) += value(row, t, i);
        }
      });
}

template <class Real>
void Gau<Real>::backward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                         const AttentionRecord<Real>& record, const Array<Real***>& output,
                         const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                         Profile* profile) {
  parallel::agree(execution, m_sequence, profile, [&] {
    require_input(m_config, m_sequence, false, mask, input, output, static_cast<AttentionState<Real>*>(nullptr));
    if (!m_gradient) m_gradient = std::make_shared<GradientBuffers>(m_config, m_sequence);
  });
  {
    const Phase phase(execution, profile, "within_chunk");
    gate_gradient(execution, input, output, output_gradient, gradient);
    if (norms_results(m_config))
      kernels::norm_heads_gradient<Real>(execution, "bsbr::attention::norm_heads_gradient", m_config.num_heads,
                                         record.unnormed, m_gradient->gated, m_gradient->gated);
    within_chunk_gradient(execution, mask, input, gradient);
  }
  GradientBuffers& buffers = *m_gradient;
  const bool averages = averages_states(m_config);
  if (averages) {
    const Phase phase(execution, profile, "scan");
    average_rows(execution, mask, input.value, buffers.averaged);
  }
  const Strided<const Real***> values = averages ? Strided<const Real***>(buffers.averaged) : input.value;
  buffers.between.form(execution, mask, {input.query, input.key, values, buffers.gated, output, {}},
                       {buffers.query, buffers.key, buffers.value}, profile);
  const Phase phase(execution, profile, "scan");
  if (averages) average_rows(execution, mask, buffers.value, buffers.value);
  add_between(execution, gradient);
}

}  // namespace

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::gau>) {
  return class_of<Real, Gau<Real>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::gau>);
template AttentionClass<double> attention_class(Tag<Architecture::gau>);

}  // namespace bsbr::attention
