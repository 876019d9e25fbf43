// Useful multiplications and additions of a forward pass, by architecture. Two for each multiply-add of a matrix product; norms, GELU,
// softmax, embedding, gates and the scores of BSBR's retrieval are left out. Symbols as in docs/mathematics.md; a = H·d is the width of
// the attention: D, for gau D·expansion_factor. All sums are over one sequence.
#include <algorithm>

#include "bsbr/config.hpp"

namespace bsbr {
namespace {

double real(std::int64_t value) { return static_cast<double>(value); }

/// Sizes of one sequence that the formulas speak of.
struct Sizes {
  double tokens, chunks, hidden, inner, head, ff;
  std::int64_t length, chunk_size;

  Sizes(const ModelConfig& config, std::int64_t sequence_length)
      : tokens(real(sequence_length)),
        chunks(real(sequence_length / config.chunk_size + (sequence_length % config.chunk_size != 0))),
        hidden(real(config.hidden_dim)),
        inner(real(config.attention_dim())),
        head(real(config.head_dim())),
        ff(real(config.ff_dim)),
        length(sequence_length),
        chunk_size(config.chunk_size) {}
};

/// Σ n² over the chunks, n = tokens in the chunk: C·B², if the chunk divides the length.
double square_pairs(const Sizes& sizes) {
  const double whole = real(sizes.chunk_size), tail = real(sizes.length % sizes.chunk_size);
  return real(sizes.length / sizes.chunk_size) * whole * whole + tail * tail;
}

/// Σ n·(n+1)/2 over the chunks: pairs (t, s) with s ≤ t in the same chunk (or s ≥ t: as many).
double causal_pairs(const Sizes& sizes) { return (square_pairs(sizes) + sizes.tokens) / 2; }

/// Scores and values: 4·a for each pair of a query and a key.
double softmax_pairs(const Sizes& sizes, double pairs) { return 4 * sizes.inner * pairs; }

/// Chunk states KᵀV and their use q·S: 2·d·a each for every token.
double states(const Sizes& sizes) { return 4 * sizes.head * sizes.inner * sizes.tokens; }

/// r and h: 4·D² a chunk. Within the chunk: 4·D·Σ n·(n+1)/2, for the causalities that see the whole chunk 4·D·Σ n². States and their
/// use: 4·d·D a token. Mixing: 2·H·S for each of the C·(C−1)/2 (causal), C·(C+1)/2 (block_causal, reference) or C² (bidirectional)
/// pairs of chunks; S = d², or D/cf. Compressing and decompressing: 4·H·S·d² a chunk.
double bsbr(const ModelConfig& config, const Sizes& sizes) {
  const double chunks = sizes.chunks, heads = real(config.num_heads), state = real(config.state_size());
  const bool half_chunk = config.causality == Causality::causal || config.causality == Causality::reference;
  double pairs_of_chunks = chunks * (chunks + 1) / 2;
  if (config.causality == Causality::causal) pairs_of_chunks = chunks * (chunks - 1) / 2;
  if (config.causality == Causality::bidirectional) pairs_of_chunks = chunks * chunks;
  const double compression = config.compression_factor == 0 ? 0 : 4 * heads * state * sizes.head * sizes.head * chunks;
  return 4 * sizes.hidden * sizes.hidden * chunks + softmax_pairs(sizes, half_chunk ? causal_pairs(sizes) : square_pairs(sizes)) +
         states(sizes) + 2 * heads * state * pairs_of_chunks + compression;
}

/// standard, hopfield: 4·D·L·(L+1)/2.
double standard(const Sizes& sizes) { return softmax_pairs(sizes, sizes.tokens * (sizes.tokens + 1) / 2); }

/// 4·D·Σ_t min(t+1, w+1): the window grows over the first m = min(L, w+1) tokens, and is full from there.
double sliding_window(const ModelConfig& config, const Sizes& sizes) {
  const double grows = real(std::min(sizes.length, config.window_size + 1));
  return softmax_pairs(sizes, grows * (grows + 1) / 2 + (sizes.tokens - grows) * grows);
}

/// gau: 4·e·Σ n·(n+1)/2 within the chunks, and states and their use.
double gau(const Sizes& sizes) { return softmax_pairs(sizes, causal_pairs(sizes)) + states(sizes); }

/// linear: kᵀv and q·S, token by token. What the kernels do besides, because tiles of tokens are faster, is not counted; so the count does
/// not depend on the chunk, as the result does not.
double linear(const Sizes& sizes) { return states(sizes); }

/// delta_net: k·S, kᵀu and q·S, token by token as well: 6·d·D a token.
double delta_net(const Sizes& sizes) { return 6 * sizes.head * sizes.hidden * sizes.tokens; }

double attention(const ModelConfig& config, const Sizes& sizes) {
  switch (config.architecture) {
    case Architecture::bsbr:
      return bsbr(config, sizes);
    case Architecture::standard:
    case Architecture::hopfield:
      return standard(sizes);
    case Architecture::sliding_window:
      return sliding_window(config, sizes);
    case Architecture::linear:
      return linear(sizes);
    case Architecture::gau:
      return gau(sizes);
    case Architecture::delta_net:
      return delta_net(sizes);
  }
  return 0;
}

}  // namespace

/// Every layer: input projections and out_proj 2·D·a each a token, feed-forward 4·D·Dff a token, and the attention.
double forward_flops(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  const Sizes sizes(config, length);
  const double projections = real(static_cast<std::int64_t>(input_projections(config.architecture).size()) + 1);
  const double a_token = projections * 2 * sizes.hidden * sizes.inner + 4 * sizes.hidden * sizes.ff;
  return real(batch) * real(config.num_layers) * (a_token * sizes.tokens + attention(config, sizes));
}

}  // namespace bsbr
