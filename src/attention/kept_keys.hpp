// Keys and values that tokens behind the end of a sequence will need.
#pragma once

#include <cstdint>
#include <string>

#include "bsbr/attention.hpp"

namespace bsbr::attention {

/// Numbers of an array that one token's key and value take, those of all heads. Packed: AttentionInput::packed.
inline std::int64_t key_elements(const ModelConfig& config, bool packed) {
  return (packed ? 1 : 2) * config.attention_dim();
}

/// rows, from `offset` on: keys and values of this rank's tokens [first, first + count), counted from its first one,
/// [token][batch][key, value].
template <class Real>
void pack_keys(const Execution& execution, const AttentionInput<Real>& input, std::int64_t first, std::int64_t count,
               const Array<Real*>& rows, std::int64_t offset);

/// Throws ShapeError unless the state has the keys, and marks if any, of the tokens [first, sequence.origin()), and
/// perhaps of some before them. numbers: of a token, key_elements().
template <class Real>
void require_kept_keys(const Sequence& sequence, std::int64_t numbers, std::int64_t first,
                       const AttentionState<Real>& state);

/// Throws ShapeError: the state has been formed by another attention, for another batch, or on other ranks.
[[noreturn]] void refuse_state(const std::string& what);

/// state.keys, and state.real: those of the tokens [first, sequence.end()), on all ranks. What comes before the
/// sequence is in the state already. Collective.
template <class Real>
void keep_keys(const Execution& execution, const Sequence& sequence, const PaddingMask& mask,
               const AttentionInput<Real>& input, std::int64_t first, AttentionState<Real>& state, Profile* profile);

/// Whether keys are appended to those of the state before they are read, rather than copied with them to another place:
/// those of one rank, where they are no more than the earlier ones that they need, the tokens [first_needed, origin).
bool appends_keys(const Sequence& sequence, std::int64_t first_needed);

/// state.keys, and state.real: those of the sequence behind those that are there. For one rank. An array that is full
/// is replaced by one of twice the size, so that each row is copied about once, however short the pieces are.
template <class Real>
void append_keys(const Execution& execution, const Sequence& sequence, const PaddingMask& mask,
                 const AttentionInput<Real>& input, AttentionState<Real>& state);

/// Drops keys, values and marks of tokens before `first`, once they are at least as many as those up to the sequence's
/// end, which stay. numbers: of a token, key_elements().
template <class Real>
void drop_keys(const Execution& execution, const Sequence& sequence, std::int64_t numbers, std::int64_t first,
               AttentionState<Real>& state);

}  // namespace bsbr::attention
