// Keys and values of earlier tokens, which may be on other ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "bsbr/attention.hpp"
#include "kernels/tokens.hpp"
#include "parallel/halo.hpp"

namespace bsbr::attention {

/// Fetches the keys and values that this rank needs from earlier ranks, and of tokens before the sequence from the
/// state. If none are needed, uses the input in place and allocates nothing; where few are added to those of the state,
/// the state's array.
template <class Real>
class KeyHalo {
 public:
  /// packed: AttentionInput::packed of its input.
  KeyHalo(const ModelConfig& config, const Sequence& sequence, bool packed, const parallel::FirstNeeded& first_needed);
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, bool packed,
                            const parallel::FirstNeeded& first_needed);

  /// Those of another sequence. Room for appended marks stays.
  void move_to(const Sequence& sequence, const parallel::FirstNeeded& first_needed);

  /// Whether any rank needs keys of another.
  bool moves_anything() const { return m_rows.has_value(); }

  /// Whether they are read where the state has them.
  bool are_appended() const { return m_are_appended; }

  /// Keys, values and mask from the first needed token, or an earlier one, to the last of this rank. Until finish()
  /// only this rank's own are there. Collective. state: of the tokens before the sequence, which may get this one's
  /// keys here; null where it begins.
  kernels::KeysAndValues<Real> start(const Execution& execution, const PaddingMask& mask,
                                     const AttentionInput<Real>& input, AttentionState<Real>* state, Profile* profile);
  void progress();
  void finish(const Execution& execution, Profile* profile);

  /// state.keys, and state.real: those of the tokens [first, sequence.end()), and perhaps of some before them. After
  /// finish(), and if they are appended, after all that reads them. Collective.
  void keep(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input, std::int64_t first,
            AttentionState<Real>& state, Profile* profile) const;

 private:
  kernels::KeysAndValues<Real> append(const Execution& execution, const PaddingMask& mask,
                                      const AttentionInput<Real>& input, AttentionState<Real>& state);
  kernels::KeysAndValues<Real> keys_in(const Array<Real*>& rows, std::int64_t count,
                                       const Array<const std::uint8_t**>& real, std::int64_t origin) const;
  template <class Number>
  void take_earlier(const Execution& execution, const Array<Number*>& kept, std::int64_t first_kept,
                    const parallel::Halo<Number>& halo) const;

  Sequence m_sequence;
  std::int64_t m_width, m_numbers;  // of a key; of a token's key and value in the rows
  bool m_is_packed;
  bool m_are_appended = false;  // to those of the state, rather than copied behind them
  parallel::HaloPlan m_plan;
  std::optional<parallel::Halo<Real>> m_rows;                // [token][batch][key, value], packed or not
  std::optional<parallel::Halo<std::uint8_t>> m_real_rows;   // [token][batch]
  Array<std::uint8_t**> m_real;                              // [batch, token]
  std::unique_ptr<parallel::Exchange<Real>> m_row_messages;  // under way between start() and finish()
  std::unique_ptr<parallel::Exchange<std::uint8_t>> m_mask_messages;
};

}  // namespace bsbr::attention
