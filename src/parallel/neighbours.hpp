// The ranks around this one in the order of the sequence.
#pragma once

#include "bsbr/sequence.hpp"

namespace bsbr::parallel {

/// The ranks with tokens that come before and after this one in the sequence; −1 if there is none, or if this one has
/// none itself.
struct Neighbours {
  explicit Neighbours(const Sequence& sequence);
  int previous = -1, next = -1;
};

}  // namespace bsbr::parallel
