#include "attention/softmax_attention.hpp"

#include <algorithm>
#include <cmath>

#include "attention/attention.hpp"
#include "kernels/token_softmax.hpp"
#include "parallel/agree.hpp"

namespace bsbr::attention {
namespace {

/// The first token that a rank's first token sees.
parallel::FirstNeeded first_seen(const Sequence& sequence, std::int64_t window) {
  return [=](int rank) { return std::max<std::int64_t>(0, sequence.first_token_of(rank) - window); };
}

}  // namespace

template <class Real>
SoftmaxAttention<Real>::SoftmaxAttention(const ModelConfig& config, const Sequence& sequence, const SoftmaxParameters& parameters)
    : m_config(config), m_sequence(sequence), m_parameters(parameters), m_keys(config, sequence, first_seen(sequence, parameters.window)) {}

template <class Real>
std::int64_t SoftmaxAttention<Real>::workspace_bytes(const ModelConfig& config, const Sequence& sequence,
                                                     const SoftmaxParameters& parameters) {
  return KeyHalo<Real>::bytes(config, sequence, first_seen(sequence, parameters.window));
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
  const kernels::KeysAndValues<Real> keys = m_keys.gather(execution, mask, input, profile);
  const Phase phase(execution, profile, "attention");
  const auto scale = static_cast<Real>(1 / (m_parameters.temperature * std::sqrt(static_cast<double>(m_config.head_dim()))));
  const std::int64_t first = m_sequence.first_token();
  kernels::token_softmax(execution, "bsbr::attention::softmax", m_config.num_heads, kernels::Window{m_parameters.window}, scale,
                         input.query, keys, output, first, first, first + m_sequence.local_tokens());
}

template class SoftmaxAttention<float>;
template class SoftmaxAttention<double>;

}  // namespace bsbr::attention
