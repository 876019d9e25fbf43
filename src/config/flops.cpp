// Useful multiplications and additions of a forward pass, by architecture. Two for each multiply-add of a matrix product; norms, GELU,
// softmax, embedding, gates and the scores of BSBR's retrieval are left out. Symbols as in docs/mathematics.md; a = H·d is the width of
// the attention: D, for gau D·expansion_factor. All sums are over one sequence.
#include <algorithm>

#include "bsbr/config.hpp"

namespace bsbr {
namespace {

using Flops = std::map<std::string, double>;  // by phase

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

/// States KᵀV, or their use q·S: 2·d·a for every token.
double states(const Sizes& sizes) { return 2 * sizes.head * sizes.inner * sizes.tokens; }

/// r and h: 4·D² a chunk. Within the chunk: 4·D·Σ n·(n+1)/2, for the causalities that see the whole chunk 4·D·Σ n². States and their
/// use. Mixing: 2·H·S for each of the C·(C−1)/2 (causal), C·(C+1)/2 (block_causal, reference) or C² (bidirectional)
/// pairs of chunks; S = d², or D/cf. Compressing and decompressing: 2·H·S·d² a chunk each.
void add_bsbr(const ModelConfig& config, const Sizes& sizes, Flops& flops) {
  const double chunks = sizes.chunks, heads = real(config.num_heads), state = real(config.state_size());
  const bool half_chunk = config.causality == Causality::causal || config.causality == Causality::reference;
  double pairs_of_chunks = chunks * (chunks + 1) / 2;
  if (config.causality == Causality::causal) pairs_of_chunks = chunks * (chunks - 1) / 2;
  if (config.causality == Causality::bidirectional) pairs_of_chunks = chunks * chunks;
  const double compression = config.compression_factor == 0 ? 0 : 2 * heads * state * sizes.head * sizes.head * chunks;
  flops["project"] += 4 * sizes.hidden * sizes.hidden * chunks;
  flops["within_chunk"] = softmax_pairs(sizes, half_chunk ? causal_pairs(sizes) : square_pairs(sizes));
  flops["states"] = flops["retrieval"] = states(sizes) + compression;
  flops["mixing"] = 2 * heads * state * pairs_of_chunks;
}

/// standard, hopfield: 4·D·L·(L+1)/2.
double standard(const Sizes& sizes) { return softmax_pairs(sizes, sizes.tokens * (sizes.tokens + 1) / 2); }

/// 4·D·Σ_t min(t+1, w+1): the window grows over the first m = min(L, w+1) tokens, and is full from there.
double sliding_window(const ModelConfig& config, const Sizes& sizes) {
  const double grows = real(std::min(sizes.length, config.window_size + 1));
  return softmax_pairs(sizes, grows * (grows + 1) / 2 + (sizes.tokens - grows) * grows);
}

/// gau: 4·e·Σ n·(n+1)/2 within the chunks, and states and their use. linear: kᵀv and q·S, token by token; what the kernels do besides,
/// because tiles of tokens are faster, is not counted, so the count does not depend on the chunk, as the result does not. delta_net: k·S,
/// kᵀu and q·S, token by token as well.
void add_attention(const ModelConfig& config, const Sizes& sizes, Flops& flops) {
  switch (config.architecture) {
    case Architecture::bsbr:
      add_bsbr(config, sizes, flops);
      break;
    case Architecture::standard:
    case Architecture::hopfield:
      flops["attention"] = standard(sizes);
      break;
    case Architecture::sliding_window:
      flops["attention"] = sliding_window(config, sizes);
      break;
    case Architecture::linear:
      flops["scan"] = 2 * states(sizes);
      break;
    case Architecture::gau:
      flops["within_chunk"] = softmax_pairs(sizes, causal_pairs(sizes));
      flops["scan"] = 2 * states(sizes);
      break;
    case Architecture::delta_net:
      flops["scan"] = 3 * states(sizes);
      break;
  }
}

}  // namespace

/// Every layer: input projections and out_proj 2·D·a each a token, feed-forward 4·D·Dff a token, and the attention.
std::map<std::string, double> forward_flops_by_phase(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  const Sizes sizes(config, length);
  const double projection = 2 * sizes.hidden * sizes.inner * sizes.tokens;
  Flops flops;
  flops["project"] = projection * real(static_cast<std::int64_t>(input_projections(config.architecture).size()));
  flops["finish"] = projection + 4 * sizes.hidden * sizes.ff * sizes.tokens;
  add_attention(config, sizes, flops);
  for (auto& phase : flops) phase.second *= real(batch) * real(config.num_layers);
  return flops;
}

double forward_flops(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  double sum = 0;
  for (const auto& [phase, flops] : forward_flops_by_phase(config, batch, length)) sum += flops;
  return sum;
}

}  // namespace bsbr
