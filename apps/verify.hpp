// Comparing a result with the reference, where the sequence is short enough for plain loops.
#pragma once

#include <optional>

#include "bsbr/io.hpp"
#include "bsbr/weights.hpp"

namespace bsbr::apps {

struct Verification {
  double largest_difference = 0;  ///< of two hidden states' numbers
  double largest_value = 0;       ///< of the reference, by magnitude
};

/// Throws UsageError if the reference would take too long.
void require_verifiable(const ModelConfig& config, const Sequence& sequence);

/// The reference runs on rank 0, in double precision. Collective; all ranks return the same.
template <class Real>
Verification verify(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                    const Array<const Real***>& hidden_states);

}  // namespace bsbr::apps
