#include "attention/softmax_attention.hpp"

#include <algorithm>

#include "attention/attention.hpp"
#include "attention/kept_keys.hpp"
#include "attention/overlap.hpp"
#include "kernels/token_softmax.hpp"
#include "kernels/token_softmax_gradient.hpp"
#include "parallel/agree.hpp"

namespace bsbr::attention {
namespace {

constexpr const char* label = "bsbr::attention::softmax";
constexpr const char* query_label = "bsbr::attention::query_gradients";
constexpr const char* key_label = "bsbr::attention::key_gradients";

/// The first token that a rank's first token sees.
parallel::FirstNeeded first_seen(const Sequence& sequence, std::int64_t window) {
  return [=](int rank) { return std::max<std::int64_t>(0, sequence.first_token_of(rank) - window); };
}

/// The token behind the last one that sees a rank's tokens.
parallel::EndNeeded end_seen(const Sequence& sequence, std::int64_t window) {
  return [=](int rank) {
    const std::int64_t end = sequence.first_token_of(rank + 1);
    return end + std::min(sequence.end() - end, window);
  };
}

/// The window of the tokens that were dealt to a rank.
struct DealtWindow {
  kernels::Window window;
  parallel::DealtRows dealt;
  KOKKOS_FUNCTION kernels::KeyRange range(std::int64_t query) const { return window.range(token(query)); }
  KOKKOS_FUNCTION Range queries(std::int64_t key) const { return window.queries(token(key)); }
  KOKKOS_FUNCTION std::int64_t token(std::int64_t number) const { return dealt.row(number); }
  KOKKOS_FUNCTION int null_keys(std::int64_t) const { return 0; }
};

/// Whether heads are sent rather than the keys of earlier tokens: where the window reaches back so far that this is
/// less, but not to tokens before the sequence.
bool by_heads(const Sequence& sequence, std::int64_t window) {
  return sequence.ranks() > 1 && sequence.origin() == 0 && window > 2 * (sequence.length() / sequence.ranks());
}

}  // namespace

template <class Real>
SoftmaxAttention<Real>::SoftmaxAttention(const ModelConfig& config, const Sequence& sequence, Rounding rounding,
                                         const SoftmaxParameters& parameters)
    : m_config(config), m_sequence(sequence), m_rounding(rounding), m_parameters(parameters) {
  const bool packed = packs_rows<Real>(config, rounding);
  if (by_heads(sequence, parameters.window))
    m_heads.emplace(config, sequence, packed);
  else
    m_keys.emplace(config, sequence, packed, first_seen(sequence, parameters.window));
}

template <class Real>
void SoftmaxAttention<Real>::move_to(const Sequence& sequence) {
  if (m_heads || by_heads(sequence, m_parameters.window)) {
    *this = SoftmaxAttention(m_config, sequence, m_rounding, m_parameters);
    return;
  }
  m_sequence = sequence;
  m_keys->move_to(sequence, first_seen(sequence, m_parameters.window));
  m_queries.reset();
}

template <class Real>
std::int64_t SoftmaxAttention<Real>::workspace_bytes(const ModelConfig& config, const Sequence& sequence,
                                                     Rounding rounding, const SoftmaxParameters& parameters) {
  const bool packed = packs_rows<Real>(config, rounding);
  return by_heads(sequence, parameters.window)
             ? HeadTranspose<Real>::bytes(config, sequence, packed)
             : KeyHalo<Real>::bytes(config, sequence, packed, first_seen(sequence, parameters.window));
}

template <class Real>
std::int64_t SoftmaxAttention<Real>::record_bytes(const ModelConfig& config, const Sequence& sequence,
                                                  const SoftmaxParameters& parameters) {
  const std::int64_t log_sums = by_heads(sequence, parameters.window)
                                    ? HeadTranspose<Real>::own_log_sums(config, sequence)
                                    : config.num_heads * sequence.local_tokens();
  return sequence.batch() * log_sums * static_cast<std::int64_t>(sizeof(Real));
}

template <class Real>
std::int64_t SoftmaxAttention<Real>::gradient_bytes(const ModelConfig& config, const Sequence& sequence,
                                                    const SoftmaxParameters& parameters) {
  const std::int64_t deltas = sequence.batch() * config.num_heads * sequence.local_tokens();
  return deltas * static_cast<std::int64_t>(sizeof(Real)) +
         (by_heads(sequence, parameters.window)
              ? HeadGradient<Real>::bytes(config, sequence)
              : QueryHalo<Real>::bytes(config, sequence, end_seen(sequence, parameters.window)));
}

template <class Real>
std::int64_t SoftmaxAttention<Real>::scratch_bytes(const ModelConfig& config) {
  const auto width = static_cast<int>(config.head_dim());
  return kernels::softmax_scratch_bytes<Real>(width, width);
}

template <class Real>
std::int64_t SoftmaxAttention<Real>::gradient_scratch_bytes(const ModelConfig& config) {
  const auto width = static_cast<int>(config.head_dim());
  return kernels::softmax_gradient_scratch_bytes<Real>(width, width);
}

template <class Real>
void SoftmaxAttention<Real>::forward(const Execution& execution, const PaddingMask& mask,
                                     const AttentionInput<Real>& input, const Array<Real***>& output, Profile* profile,
                                     AttentionState<Real>* state, AttentionRecord<Real>* record) {
  parallel::agree(execution, m_sequence, profile, [&] {
    require_input(m_config, m_sequence, packs_rows<Real>(m_config, m_rounding), mask, input, output, state);
    if (state != nullptr)
      require_kept_keys(m_sequence, key_elements(m_config, input.packed), kept_from(m_sequence.origin()), *state);
    if (record != nullptr) reserve(*record);
  });
  poison_written(execution, input, output);
  if (m_heads)
    attend_by_heads(execution, mask, input, output, record, profile);
  else
    attend_to_rows(execution, mask, input, output, state, record, profile);
  if (state == nullptr) return;
  const std::int64_t kept = kept_from(m_sequence.end());
  if (m_keys)
    m_keys->keep(execution, mask, input, kept, *state, profile);
  else
    keep_keys(execution, m_sequence, mask, input, kept, *state, profile);
  state->tokens = m_sequence.end();
}

/// Queries of this rank's heads as they come, those of one rank after another: they see the keys of that rank and of
/// those before it.
template <class Real>
void SoftmaxAttention<Real>::attend_by_heads(const Execution& execution, const PaddingMask& mask,
                                             const AttentionInput<Real>& input, const Array<Real***>& output,
                                             AttentionRecord<Real>* record, Profile* profile) {
  const auto scale = kernels::score_scale<Real>(m_config.head_dim(), m_parameters.temperature);
  m_heads->forward(execution, mask, input, output, profile, [&](const typename HeadTranspose<Real>::Work& work) {
    const Phase phase(execution, profile, "attention");
    const DealtWindow visible{{m_parameters.window}, work.dealt};
    if (record == nullptr) {
      kernels::token_softmax(execution, label, work.heads, visible, scale, work.query, work.keys, work.output, 0,
                             work.first, work.last);
    } else {
      kernels::token_softmax_with_log_sums(execution, label, work.heads, visible, scale, work.query, work.keys,
                                           work.output, record->log_sums, 0, work.first, work.last);
    }
  });
}

/// This rank's queries: those that see its own keys only, which hides the messages; then those that see the keys that
/// have come.
template <class Real>
void SoftmaxAttention<Real>::attend_to_rows(const Execution& execution, const PaddingMask& mask,
                                            const AttentionInput<Real>& input, const Array<Real***>& output,
                                            AttentionState<Real>* state, AttentionRecord<Real>* record,
                                            Profile* profile) {
  const auto scale = kernels::score_scale<Real>(m_config.head_dim(), m_parameters.temperature);
  const std::int64_t first = m_sequence.first_token(), last = first + m_sequence.local_tokens();
  const auto keys = m_keys->start(execution, mask, input, state, profile);
  const kernels::HeadRows<Real> queries_of_all(input.query, input.packed);
  const auto attend = [&](std::int64_t begin, std::int64_t end) {
    if (record == nullptr) {
      kernels::token_softmax(execution, label, m_config.num_heads, kernels::Window{m_parameters.window}, scale,
                             queries_of_all, keys, output, first, begin, end);
    } else {
      kernels::token_softmax_with_log_sums(execution, label, m_config.num_heads, kernels::Window{m_parameters.window},
                                           scale, queries_of_all, keys, output, record->log_sums, first, begin, end);
    }
  };
  std::int64_t alone = last;  // queries from here on see this rank's keys only
  if (m_keys->moves_anything()) {
    constexpr std::int64_t tile = kernels::tuning::query_tile;
    const std::int64_t window = std::min(last, m_parameters.window);
    alone = keys.origin == first ? first : std::min(last, (first + window + tile - 1) / tile * tile);
    const Partition queries{last - alone, overlap_portions};
    {
      const Phase phase(execution, profile, "attention");
      overlap(
          execution, 0, overlap_portions,
          [&](int portion) { attend(alone + queries.begin(portion), alone + queries.end(portion)); }, *m_keys);
    }
    m_keys->finish(execution, profile);
  }
  const Phase phase(execution, profile, "attention");
  attend(first, alone);
}

/// Room for what the gradient needs of a forward.
template <class Real>
void SoftmaxAttention<Real>::reserve(AttentionRecord<Real>& record) const {
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  const auto batch = size(m_sequence.batch()), heads = size(m_heads ? m_heads->own_heads() : m_config.num_heads),
             queries = size(m_heads ? m_heads->own_queries() : m_sequence.local_tokens());
  const auto& there = record.log_sums;
  if (there.extent(0) == batch && there.extent(1) == heads && there.extent(2) == queries) return;
  record.log_sums = Array<Real***>("bsbr::attention::log_sums", batch, heads, queries);
}

template <class Real>
void SoftmaxAttention<Real>::backward(const Execution& execution, const PaddingMask& mask,
                                      const AttentionInput<Real>& input, const AttentionRecord<Real>& record,
                                      const Array<Real***>& output, const Array<Real***>& output_gradient,
                                      const AttentionGradient<Real>& gradient, Profile* profile) {
  parallel::agree(execution, m_sequence, profile, [&] {
    require_input(m_config, m_sequence, false, mask, input, output, static_cast<AttentionState<Real>*>(nullptr));
    if (m_head_gradient || m_queries) return;
    m_deltas =
        Array<Real***>("bsbr::attention::deltas", m_sequence.batch(), m_config.num_heads, m_sequence.local_tokens());
    if (m_heads)
      m_head_gradient.emplace(m_config, m_sequence);
    else
      m_queries.emplace(m_config, m_sequence, end_seen(m_sequence, m_parameters.window));
  });
  {
    const Phase phase(execution, profile, "attention");
    kernels::token_deltas<Real>(execution, "bsbr::attention::deltas", output, output_gradient, m_deltas);
  }
  if (m_heads) {
    gradient_by_heads(execution, mask, input, record, output_gradient, gradient, profile);
  } else {
    gradient_of_rows(execution, mask, input,
                     {input.query, output_gradient, record.log_sums, m_deltas, m_sequence.first_token(), {}}, gradient,
                     profile);
  }
}

template <class Real>
void SoftmaxAttention<Real>::gradient_by_heads(const Execution& execution, const PaddingMask& mask,
                                               const AttentionInput<Real>& input, const AttentionRecord<Real>& record,
                                               const Array<Real***>& output_gradient,
                                               const AttentionGradient<Real>& gradient, Profile* profile) {
  const auto scale = kernels::score_scale<Real>(m_config.head_dim(), m_parameters.temperature);
  using Work = typename HeadGradient<Real>::Work;
  const auto of_queries = [&](const Work& work) {
    const Phase phase(execution, profile, "attention");
    kernels::token_query_gradients(execution, query_label, work.heads, DealtWindow{{m_parameters.window}, work.dealt},
                                   scale, work.tokens, work.query, 0, work.first, work.last);
  };
  const auto of_keys = [&](const Work& work) {
    const Phase phase(execution, profile, "attention");
    kernels::token_key_gradients(execution, key_label, work.heads, DealtWindow{{m_parameters.window}, work.dealt},
                                 scale, work.tokens, work.key, work.value, 0, work.first, work.last);
  };
  const auto real = m_heads->gather_mask(execution, mask, profile);
  m_head_gradient->backward(execution, input, real, record.log_sums, m_deltas, output_gradient, gradient, profile,
                            of_queries, of_keys);
}

/// This rank's queries, dq, and its keys, dk and dv. First those that need no rows of other ranks, which hides the
/// messages.
template <class Real>
void SoftmaxAttention<Real>::gradient_of_rows(const Execution& execution, const PaddingMask& mask,
                                              const AttentionInput<Real>& input,
                                              const kernels::SoftmaxTokens<Real>& own,
                                              const AttentionGradient<Real>& gradient, Profile* profile) {
  const auto scale = kernels::score_scale<Real>(m_config.head_dim(), m_parameters.temperature);
  const std::int64_t first = m_sequence.first_token(), last = first + m_sequence.local_tokens(),
                     heads = m_config.num_heads;
  const kernels::Window visible{m_parameters.window};
  kernels::SoftmaxTokens<Real> seeing = own;  // my queries, and the keys that they see
  seeing.keys = m_keys->start(execution, mask, input, nullptr, profile);
  kernels::SoftmaxTokens<Real> seen = own;  // my keys, and the queries that see them
  {
    const Phase phase(execution, profile, "exchange");
    seen = m_queries->start(execution, own);
  }
  seen.keys = {input.key, input.value, mask.tokens(), first};
  const auto of_queries = [&](std::int64_t begin, std::int64_t end) {
    kernels::token_query_gradients(execution, query_label, heads, visible, scale, seeing, gradient.query, first, begin,
                                   end);
  };
  const auto of_keys = [&](std::int64_t begin, std::int64_t end) {
    kernels::token_key_gradients(execution, key_label, heads, visible, scale, seen, gradient.key, gradient.value, first,
                                 begin, end);
  };
  // Queries from here on see this rank's keys only, and keys up to here are seen by its queries only.
  std::int64_t alone = first, alone_end = last;
  if (m_keys->moves_anything()) {
    constexpr std::int64_t tile = kernels::tuning::query_tile;
    const std::int64_t window = std::min(last, m_parameters.window);
    alone = seeing.keys.origin == first ? first : std::min(last, (first + window + tile - 1) / tile * tile);
    alone_end = std::max(first, (last - std::min(last - first, window)) / tile * tile);
    const Partition queries{last - alone, overlap_portions}, keys{alone_end - first, overlap_portions};
    const Phase phase(execution, profile, "attention");
    overlap(
        execution, 0, overlap_portions,
        [&](int portion) {
          of_queries(alone + queries.begin(portion), alone + queries.end(portion));
          of_keys(first + keys.begin(portion), first + keys.end(portion));
        },
        *m_keys, *m_queries);
  } else {
    alone = last, alone_end = first;
  }
  m_keys->finish(execution, profile);
  m_queries->finish(execution, profile);
  const Phase phase(execution, profile, "attention");
  of_queries(first, alone);
  of_keys(alone_end, last);
}

template class SoftmaxAttention<float>;
template class SoftmaxAttention<double>;

}  // namespace bsbr::attention
