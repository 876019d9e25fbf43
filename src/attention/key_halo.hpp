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
/// state. If none are needed, uses the input in place and allocates nothing.
template <class Real>
class KeyHalo {
 public:
  KeyHalo(const ModelConfig& config, const Sequence& sequence, const parallel::FirstNeeded& first_needed);
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence,
                            const parallel::FirstNeeded& first_needed);

  /// Whether any rank needs keys of another.
  bool moves_anything() const { return m_rows.has_value(); }

  /// Keys, values and mask from the first needed token to the last of this rank. Until finish() only this rank's own
  /// are there. Collective.
  /// state: of the tokens before the sequence; null where it begins.
  kernels::KeysAndValues<Real> start(const Execution& execution, const PaddingMask& mask,
                                     const AttentionInput<Real>& input, const AttentionState<Real>* state,
                                     Profile* profile);
  void progress();
  void finish(const Execution& execution, Profile* profile);

 private:
  Strided<const Real***> columns(std::int64_t first) const;
  template <class Number>
  void take_earlier(const Execution& execution, const Array<Number*>& kept, std::int64_t first_kept,
                    const parallel::Halo<Number>& halo) const;

  Sequence m_sequence;
  std::int64_t m_width;
  parallel::HaloPlan m_plan;
  std::optional<parallel::Halo<Real>> m_rows;                // [token][batch][key, value]
  std::optional<parallel::Halo<std::uint8_t>> m_real_rows;   // [token][batch]
  Array<std::uint8_t**> m_real;                              // [batch, token]
  std::unique_ptr<parallel::Exchange<Real>> m_row_messages;  // under way between start() and finish()
  std::unique_ptr<parallel::Exchange<std::uint8_t>> m_mask_messages;
};

}  // namespace bsbr::attention
