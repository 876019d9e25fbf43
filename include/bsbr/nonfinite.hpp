// Hidden states that are not numbers any more, since something overflowed on the way to them.
#pragma once

#include <cstdint>
#include <optional>

#include "bsbr/sequence.hpp"
#include "bsbr/types.hpp"

namespace bsbr {

/// A token of a batch of sequences.
struct TokenPlace {
  std::int64_t batch;  ///< index of the sequence in the batch
  std::int64_t token;  ///< index of the token in the whole sequence
};

/// The hidden states that have an element which is NaN or infinite.
struct NonfiniteStates {
  std::int64_t count = 0;           ///< over all ranks
  std::optional<TokenPlace> first;  ///< the first token of the first sequence that has one; empty if there is none
};

/// Looks for them in `states` [batch, local tokens, width]. Collective over the sequence's communicator; all ranks
/// return the same, which does not depend on their number. Throws ShapeError on all ranks if the extents are not those
/// of the sequence.
template <class Real>
NonfiniteStates find_nonfinite(const Execution& execution, const Sequence& sequence,
                               const Array<const Real***>& states);

}  // namespace bsbr
