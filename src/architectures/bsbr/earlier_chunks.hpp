// The chunks before a sequence that goes on from earlier tokens: what the state of an attention keeps of them.
#pragma once

#include "bsbr/attention.hpp"
#include "kernels/state_layout.hpp"

namespace bsbr::attention {

/// The whole chunks before the sequence, as mixing reads them. Chunks are counted from the first token of all.
template <class Real>
struct EarlierChunks {
  std::int64_t count = 0;
  std::int64_t room = 0;         // of how many chunks the states have a place
  Array<const Real*> states;     // [block of this rank][room][batch][width]: F
  Array<const Real*> retrieval;  // [chunk][batch][r, h]
};

/// Of all chunks up to the sequence's end.
struct ChunkMarks {
  Array<const std::uint8_t**> real;          // [batch, chunk]: 1 where it has a real token
  Array<const std::int64_t**> nearest_real;  // [batch, chunk]: the last chunk up to this one that has
};

/// Throws ShapeError unless the state has this rank's blocks of the whole chunks before the sequence, and r, h and
/// marks of all. row: elements of r and h of a batch.
template <class Real>
void require_chunks(const Sequence& sequence, const kernels::GatheredStates& gathered, std::int64_t row,
                    const AttentionState<Real>& state);

/// state: null, or of no token: there are none.
template <class Real>
EarlierChunks<Real> earlier_chunks(const Sequence& sequence, const kernels::GatheredStates& gathered,
                                   const AttentionState<Real>* state);
template <class Real>
ChunkMarks chunk_marks(const Execution& execution, const Sequence& sequence, const PaddingMask& mask,
                       const AttentionState<Real>* state);

/// Adds the chunks of the sequence to the state: F of the whole ones, r, h and marks of all. What is never read of them
/// is 0, so that a state is a function of its tokens.
/// states: [rank][block of this rank][chunk of that rank][batch][width]. retrieval: [chunk of the sequence][row].
template <class Real>
void keep_chunks(const Execution& execution, const Sequence& sequence, const kernels::GatheredStates& gathered,
                 const Array<const Real*>& states, const Array<const Real*>& retrieval, const ChunkMarks& marks,
                 AttentionState<Real>& state);

}  // namespace bsbr::attention
