#include "attention/key_halo.hpp"

#include "attention/mask_rows.hpp"
#include "attention/overlap.hpp"
#include "kernels/rows.hpp"

namespace bsbr::attention {
namespace {

/// Elements of one token in the rows that move, those of the whole batch.
std::int64_t row_elements(const ModelConfig& config, const Sequence& sequence) {
  return sequence.batch() * 2 * config.attention_dim();
}

}  // namespace

template <class Real>
KeyHalo<Real>::KeyHalo(const ModelConfig& config, const Sequence& sequence, const parallel::FirstNeeded& first_needed)
    : m_sequence(sequence), m_width(config.attention_dim()), m_plan(sequence, first_needed) {
  if (!m_plan.moves_anything()) return;
  m_rows.emplace(m_plan, row_elements(config, sequence));
  m_real_rows.emplace(m_plan, sequence.batch());
  m_real = Array<std::uint8_t**>("bsbr::attention::halo_mask", sequence.batch(), m_plan.rows());
}

template <class Real>
std::int64_t KeyHalo<Real>::bytes(const ModelConfig& config, const Sequence& sequence,
                                  const parallel::FirstNeeded& first_needed) {
  const parallel::HaloPlan plan(sequence, first_needed);
  if (!plan.moves_anything()) return 0;
  return parallel::Halo<Real>::bytes(plan, row_elements(config, sequence)) +
         2 * parallel::Halo<std::uint8_t>::bytes(plan, sequence.batch());
}

template <class Real>
kernels::KeysAndValues<Real> KeyHalo<Real>::start(const Execution& execution, const PaddingMask& mask,
                                                  const AttentionInput<Real>& input, Profile* profile) {
  if (!m_rows) return {input.key, input.value, mask.tokens(), m_sequence.first_token()};
  m_row_messages.reset();  // a forward that failed may have left some
  m_mask_messages.reset();
  const Phase phase(execution, profile, "exchange");
  pack_rows(execution, input);
  m_row_messages = m_rows->start(execution, m_sequence.comm());
  if (!mask.has_padding()) return {columns(0), columns(m_width), {}, m_plan.first_token()};
  pack_mask(execution, mask, m_real_rows->data(), m_real_rows->own_offset());
  unpack_mask(execution, m_real_rows->data(), m_real);  // this rank's own
  m_mask_messages = m_real_rows->start(execution, m_sequence.comm());
  return {columns(0), columns(m_width), m_real, m_plan.first_token()};
}

template <class Real>
void KeyHalo<Real>::progress() {
  if (m_row_messages) m_row_messages->progress();
}

template <class Real>
void KeyHalo<Real>::finish(const Execution& execution, Profile* profile) {
  if (!m_rows) return;
  const Phase phase(execution, profile, "exchange");
  attention::finish(*m_row_messages, "halo", profile);
  m_row_messages.reset();
  if (!m_mask_messages) return;
  attention::finish(*m_mask_messages, "mask", profile);
  m_mask_messages.reset();
  unpack_mask(execution, m_real_rows->data(), m_real);
}

/// Columns [first, first + width) of the rows, as [batch, token, width].
template <class Real>
Strided<const Real***> KeyHalo<Real>::columns(std::int64_t first) const {
  const auto batch = static_cast<std::size_t>(m_sequence.batch()), rows = static_cast<std::size_t>(m_plan.rows());
  const auto width = static_cast<std::size_t>(m_width);
  return Strided<const Real***>(m_rows->data().data() + first,
                                Kokkos::LayoutStride(batch, 2 * width, rows, batch * 2 * width, width, 1));
}

template <class Real>
void KeyHalo<Real>::pack_rows(const Execution& execution, const AttentionInput<Real>& input) const {
  const std::int64_t batch = m_sequence.batch(), width = m_width, offset = m_rows->own_offset();
  const Array<Real*> rows = m_rows->data();
  const auto key = input.key, value = input.value;
  kernels::copy_rows(
      execution, "bsbr::attention::pack_keys", m_sequence.local_tokens() * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        Real* target = &rows(offset + i * 2 * width);
        return kernels::RowCopies<Real, 2>{{&key(i % batch, i / batch, 0), &value(i % batch, i / batch, 0)},
                                           {target, target + width}};
      });
}

template class KeyHalo<float>;
template class KeyHalo<double>;

}  // namespace bsbr::attention
