// Sizes and sums that the operation counts of several architectures have in common. Symbols as in docs/mathematics.md;
// a = H·d is the width of the attention. A multiply-add counts as two; all sums are over one sequence.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "bsbr/config.hpp"

namespace bsbr {

/// Operations by phase of Profile.
using Flops = std::map<std::string, double>;

/// Sizes of one sequence that the formulas speak of.
struct FlopSizes {
  double tokens, chunks, hidden, inner, head, ff;
  std::int64_t length, chunk_size;

  FlopSizes(const ModelConfig& config, std::int64_t sequence_length);
};

/// Σ n·(n+1)/2 over the chunks: pairs (t, s) with s ≤ t in the same chunk (or s ≥ t: as many).
double causal_pairs(const FlopSizes& sizes);

/// L·(L+1)/2: pairs (t, s) with s ≤ t.
double all_causal_pairs(const FlopSizes& sizes);

/// Scores and values: 4·a for each pair of a query and a key.
double softmax_pairs(const FlopSizes& sizes, double pairs);

/// States KᵀV, or their use q·S: 2·d·a for every token.
double states(const FlopSizes& sizes);

}  // namespace bsbr
