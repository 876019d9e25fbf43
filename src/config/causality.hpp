// The mask of BSBR, in one place for kernels, reference and operation counts: which tokens a token sees, which chunks a
// chunk sees, and where r comes from (docs/mathematics.md, "Causality"). No Kokkos here, but GPUs call these functions,
// too.
#pragma once

#include <cstdint>

#include "bsbr/config.hpp"
#include "bsbr/function.hpp"

namespace bsbr {

/// Tokens or chunks [begin, end).
struct Range {
  std::int64_t begin, end;
};

/// The tokens of a chunk, the last of which may be ragged.
BSBR_FUNCTION constexpr Range chunk_of_token(std::int64_t t, std::int64_t chunk_size, std::int64_t length) {
  const std::int64_t begin = t / chunk_size * chunk_size, end = begin + chunk_size;
  return {begin, end < length ? end : length};
}

/// M_in: the tokens of its chunk that token t sees.
BSBR_FUNCTION constexpr Range tokens_seen(Causality causality, std::int64_t t, Range chunk) {
  if (causality == Causality::causal) return {chunk.begin, t + 1};
  if (causality == Causality::reference) return {t, chunk.end};
  return chunk;
}

/// The tokens of its chunk that see token s: the inverse of tokens_seen.
BSBR_FUNCTION constexpr Range tokens_that_see(Causality causality, std::int64_t s, Range chunk) {
  if (causality == Causality::causal) return {s, chunk.end};
  if (causality == Causality::reference) return {chunk.begin, s + 1};
  return chunk;
}

/// Further keys and values of zeros that each token of a chunk sees: the Python package pads the last chunk with them,
/// and does not mask them.
BSBR_FUNCTION constexpr std::int64_t absent_tokens(Causality causality, std::int64_t chunk_size, Range chunk) {
  return causality == Causality::reference ? chunk_size - (chunk.end - chunk.begin) : 0;
}

/// M_out: the chunks that chunk i retrieves from.
BSBR_FUNCTION constexpr Range chunks_seen(Causality causality, std::int64_t i, std::int64_t chunks) {
  if (causality == Causality::causal) return {0, i};
  if (causality == Causality::block_causal) return {0, i + 1};
  if (causality == Causality::reference) return {i, chunks};
  return {0, chunks};
}

/// The chunks that retrieve from chunk j: the inverse of chunks_seen.
BSBR_FUNCTION constexpr Range chunks_that_see(Causality causality, std::int64_t j, std::int64_t chunks) {
  if (causality == Causality::causal) return {j + 1, chunks};
  if (causality == Causality::block_causal) return {j, chunks};
  if (causality == Causality::reference) return {0, j + 1};
  return {0, chunks};
}

/// r_i is taken at the last real token of the nearest chunk with one, from this chunk downwards; −1: there is none.
BSBR_FUNCTION constexpr std::int64_t latest_retrieval_source(Causality causality, std::int64_t i) {
  return causality == Causality::causal ? i - 1 : i;
}

}  // namespace bsbr
