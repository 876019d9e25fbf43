#include "attention/softmax_attention.hpp"

#include <algorithm>

#include "attention/attention.hpp"
#include "kernels/token_softmax.hpp"
#include "parallel/agree.hpp"

namespace bsbr::attention {
namespace {

/// The first token that a rank's first token sees.
parallel::FirstNeeded first_seen(const Sequence& sequence, std::int64_t window) {
  return [=](int rank) { return std::max<std::int64_t>(0, sequence.first_token_of(rank) - window); };
}

/// The window of the queries that were dealt to a rank.
struct DealtWindow {
  kernels::Window window;
  parallel::DealtTokens dealt;
  KOKKOS_FUNCTION kernels::KeyRange range(std::int64_t query) const { return window.range(dealt.token(query)); }
  KOKKOS_FUNCTION int null_keys(std::int64_t) const { return 0; }
};

/// Whether heads are sent rather than the keys of earlier tokens: where the window reaches back so far that this is less.
bool by_heads(const Sequence& sequence, std::int64_t window) {
  return sequence.ranks() > 1 && window > 2 * (sequence.length() / sequence.ranks());
}

}  // namespace

template <class Real>
SoftmaxAttention<Real>::SoftmaxAttention(const ModelConfig& config, const Sequence& sequence, const SoftmaxParameters& parameters)
    : m_config(config), m_sequence(sequence), m_parameters(parameters) {
  if (by_heads(sequence, parameters.window))
    m_heads.emplace(config, sequence);
  else
    m_keys.emplace(config, sequence, first_seen(sequence, parameters.window));
}

template <class Real>
std::int64_t SoftmaxAttention<Real>::workspace_bytes(const ModelConfig& config, const Sequence& sequence,
                                                     const SoftmaxParameters& parameters) {
  return by_heads(sequence, parameters.window) ? HeadTranspose<Real>::bytes(config, sequence)
                                               : KeyHalo<Real>::bytes(config, sequence, first_seen(sequence, parameters.window));
}

template <class Real>
std::int64_t SoftmaxAttention<Real>::scratch_bytes(const ModelConfig& config) {
  const auto width = static_cast<int>(config.head_dim());
  return kernels::SoftmaxTile<Real>::bytes(width, width);
}

template <class Real>
void SoftmaxAttention<Real>::forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                                     const Array<Real***>& output, Profile* profile) {
  parallel::agree(m_sequence.comm(), [&] { require_input(m_config, m_sequence, mask, input, output); });
  const auto scale = kernels::score_scale<Real>(m_config.head_dim(), m_parameters.temperature);
  const kernels::Window window{m_parameters.window};
  const char* const label = "bsbr::attention::softmax";
  if (m_heads) {
    const auto work = m_heads->send(execution, mask, input, profile);
    {
      const Phase phase(execution, profile, "attention");
      kernels::token_softmax(execution, label, work.heads, DealtWindow{window, work.dealt}, scale, work.query, work.keys, work.output, 0, 0,
                             work.queries);
    }
    m_heads->send_back(execution, output, profile);
  } else {
    const auto keys = m_keys->gather(execution, mask, input, profile);
    const std::int64_t first = m_sequence.first_token();
    const Phase phase(execution, profile, "attention");
    kernels::token_softmax(execution, label, m_config.num_heads, window, scale, input.query, keys, output, first, first,
                           first + m_sequence.local_tokens());
  }
}

template class SoftmaxAttention<float>;
template class SoftmaxAttention<double>;

}  // namespace bsbr::attention
