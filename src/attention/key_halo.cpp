#include "attention/key_halo.hpp"

#include <algorithm>

#include "attention/kept_keys.hpp"
#include "attention/mask_rows.hpp"
#include "attention/overlap.hpp"
#include "parallel/message_buffer.hpp"

namespace bsbr::attention {

template <class Real>
KeyHalo<Real>::KeyHalo(const ModelConfig& config, const Sequence& sequence, bool packed,
                       const parallel::FirstNeeded& first_needed)
    : m_sequence(sequence),
      m_width(config.attention_dim()),
      m_numbers(key_elements(config, packed)),
      m_is_packed(packed),
      m_plan(sequence, first_needed) {
  move_to(sequence, first_needed);
}

template <class Real>
void KeyHalo<Real>::move_to(const Sequence& sequence, const parallel::FirstNeeded& first_needed) {
  m_sequence = sequence;
  m_plan = parallel::HaloPlan(sequence, first_needed);
  m_are_appended = appends_keys(sequence, first_needed(0));
  m_row_messages.reset();
  m_mask_messages.reset();
  m_rows.reset();
  m_real_rows.reset();
  if (m_are_appended || !m_plan.moves_anything()) return;
  m_rows.emplace(m_plan, sequence.batch() * m_numbers);
  m_real_rows.emplace(m_plan, sequence.batch());
  m_real = Array<std::uint8_t**>("bsbr::attention::halo_mask", sequence.batch(), m_plan.rows());
}

template <class Real>
std::int64_t KeyHalo<Real>::bytes(const ModelConfig& config, const Sequence& sequence, bool packed,
                                  const parallel::FirstNeeded& first_needed) {
  const parallel::HaloPlan plan(sequence, first_needed);
  if (appends_keys(sequence, first_needed(0)) || !plan.moves_anything()) return 0;
  return parallel::Halo<Real>::bytes(plan, sequence.batch() * key_elements(config, packed)) +
         2 * parallel::Halo<std::uint8_t>::bytes(plan, sequence.batch());
}

/// The rows of tokens before the sequence are the first ones of the halo. kept: of the tokens from first_kept on.
template <class Real>
template <class Number>
void KeyHalo<Real>::take_earlier(const Execution& execution, const Array<Number*>& kept, std::int64_t first_kept,
                                 const parallel::Halo<Number>& halo) const {
  const std::int64_t row = static_cast<std::int64_t>(halo.data().size()) / std::max<std::int64_t>(1, m_plan.rows());
  const std::int64_t count = (m_sequence.origin() - m_plan.first_token()) * row;
  if (count <= 0) return;
  const std::int64_t from = (m_plan.first_token() - first_kept) * row;
  Kokkos::deep_copy(execution, parallel::range_of(halo.data(), {0, count}), parallel::range_of(kept, {from, count}));
}

template <class Real>
kernels::KeysAndValues<Real> KeyHalo<Real>::start(const Execution& execution, const PaddingMask& mask,
                                                  const AttentionInput<Real>& input, AttentionState<Real>* state,
                                                  Profile* profile) {
  if (m_are_appended) {
    const Phase phase(execution, profile, "exchange");
    return append(execution, mask, input, *state);
  }
  if (!m_rows) return {input.key, input.value, mask.tokens(), m_sequence.first_token(), m_is_packed};
  m_row_messages.reset();  // a forward that failed may have left some
  m_mask_messages.reset();
  const Phase phase(execution, profile, "exchange");
  pack_keys(execution, input, 0, m_sequence.local_tokens(), m_rows->data(), m_rows->own_offset());
  if (state != nullptr) take_earlier(execution, state->keys, state->first_key, *m_rows);
  m_row_messages = m_rows->start(execution, m_sequence.comm());
  const bool was_padded = state != nullptr && state->real.size() > 0;
  if (!mask.has_padding() && !was_padded) return keys_in(m_rows->data(), m_plan.rows(), {}, m_plan.first_token());
  Kokkos::deep_copy(execution, m_real_rows->data(), std::uint8_t{1});
  if (mask.has_padding()) pack_mask(execution, mask, m_real_rows->data(), m_real_rows->own_offset());
  if (was_padded) take_earlier(execution, state->real, state->first_key, *m_real_rows);
  unpack_mask(execution, m_real_rows->data(), m_plan.rows(), m_real);  // what is there
  m_mask_messages = m_real_rows->start(execution, m_sequence.comm());
  return keys_in(m_rows->data(), m_plan.rows(), m_real, m_plan.first_token());
}

/// Those of the state, with this sequence's behind them.
template <class Real>
kernels::KeysAndValues<Real> KeyHalo<Real>::append(const Execution& execution, const PaddingMask& mask,
                                                   const AttentionInput<Real>& input, AttentionState<Real>& state) {
  append_keys(execution, m_sequence, mask, input, state);
  const std::int64_t count = m_sequence.end() - state.first_key;
  if (state.real.size() == 0) return keys_in(state.keys, count, {}, state.first_key);
  const auto batch = static_cast<std::size_t>(m_sequence.batch());
  if (m_real.extent(0) != batch || static_cast<std::int64_t>(m_real.extent(1)) < count)
    m_real = Array<std::uint8_t**>("bsbr::attention::halo_mask", batch, state.real.size() / batch);
  unpack_mask(execution, state.real, count, m_real);
  return keys_in(state.keys, count, m_real, state.first_key);
}

template <class Real>
void KeyHalo<Real>::keep(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                         std::int64_t first, AttentionState<Real>& state, Profile* profile) const {
  if (!m_are_appended) return keep_keys(execution, m_sequence, mask, input, first, state, profile);
  const Phase phase(execution, profile, "exchange");
  drop_keys(execution, m_sequence, m_numbers, first, state);
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
  unpack_mask(execution, m_real_rows->data(), m_plan.rows(), m_real);
}

/// Those of `count` tokens from `origin` on: rows [token][batch][key, value] as keys and values [batch, token, width].
template <class Real>
kernels::KeysAndValues<Real> KeyHalo<Real>::keys_in(const Array<Real*>& rows, std::int64_t count,
                                                    const Array<const std::uint8_t**>& real,
                                                    std::int64_t origin) const {
  const auto batch = static_cast<std::size_t>(m_sequence.batch()), tokens = static_cast<std::size_t>(count),
             width = static_cast<std::size_t>(m_width), numbers = static_cast<std::size_t>(m_numbers);
  const Kokkos::LayoutStride layout(batch, numbers, tokens, batch * numbers, width, 1);
  const Strided<const Real***> key(rows.data(), layout);
  if (m_is_packed) return {key, {}, real, origin, true};
  return {key, Strided<const Real***>(rows.data() + m_width, layout), real, origin};
}

template class KeyHalo<float>;
template class KeyHalo<double>;

}  // namespace bsbr::attention
