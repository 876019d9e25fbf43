// Useful multiplications and additions of a forward pass. Two for each multiply-add of a matrix product; norms, GELU,
// softmax, embedding, gates and the scores of BSBR's retrieval are left out.
#include "config/flops.hpp"

#include "architectures/traits.hpp"

namespace bsbr {
namespace {

double real(std::int64_t value) { return static_cast<double>(value); }

}  // namespace

FlopSizes::FlopSizes(const ModelConfig& config, std::int64_t sequence_length)
    : tokens(real(sequence_length)),
      chunks(real(sequence_length / config.chunk_size + (sequence_length % config.chunk_size != 0))),
      hidden(real(config.hidden_dim)),
      inner(real(config.attention_dim())),
      head(real(config.head_dim())),
      ff(real(config.ff_dim)),
      length(sequence_length),
      chunk_size(config.chunk_size) {}

double causal_pairs(const FlopSizes& sizes) {
  const double whole = real(sizes.chunk_size), tail = real(sizes.length % sizes.chunk_size);
  return real(sizes.length / sizes.chunk_size) * whole * (whole + 1) / 2 + tail * (tail + 1) / 2;
}

double all_causal_pairs(const FlopSizes& sizes) { return sizes.tokens * (sizes.tokens + 1) / 2; }

double softmax_pairs(const FlopSizes& sizes, double pairs) { return 4 * sizes.inner * pairs; }

double states(const FlopSizes& sizes) { return 2 * sizes.head * sizes.inner * sizes.tokens; }

/// Every layer: projections of tokens and out_proj 2·D·a each a token, feed-forward 4·D·Dff a token, and the attention.
std::map<std::string, double> forward_flops_by_phase(const ModelConfig& config, std::int64_t batch,
                                                     std::int64_t length) {
  const FlopSizes sizes(config, length);
  const double projection = 2 * sizes.hidden * sizes.inner * sizes.tokens;
  Flops flops = traits(config.architecture).flops(config, sizes);
  flops["project"] += projection * real(static_cast<std::int64_t>(input_projections(config.architecture).size()));
  flops["finish"] = projection + 4 * sizes.hidden * sizes.ff * sizes.tokens;
  for (auto& phase : flops) phase.second *= real(batch) * real(config.num_layers);
  return flops;
}

double forward_flops(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  double sum = 0;
  for (const auto& [phase, flops] : forward_flops_by_phase(config, batch, length)) sum += flops;
  return sum;
}

double head_flops(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  if (config.head == Head::none) return 0;
  return 2 * real(config.vocab_size) * real(config.hidden_dim) * real(batch) * real(length);
}

}  // namespace bsbr
