// Token ids drawn at random.
#pragma once

#include "bsbr/sequence.hpp"
#include "bsbr/types.hpp"

namespace bsbr::harness {

/// Ids of this rank's part, uniform over [0, vocab_size). An id depends on the seed, its row and its place in the
/// sequence only: not on the number of ranks, nor on how long the sequence is.
HostArray<std::int32_t**> random_tokens(const Sequence& sequence, std::int64_t vocab_size, std::uint64_t seed);

}  // namespace bsbr::harness
