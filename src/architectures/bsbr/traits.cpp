// Block sparse attention with block retrieval: softmax attention within each chunk, and a retrieval of whole chunks' states between them.
#include "architectures/traits.hpp"
#include "config/messages.hpp"
#include "config/weight_table.hpp"

namespace bsbr {
namespace {

bool is_causal(const ModelConfig& config) { return config.causality == Causality::causal; }

bool heeds_padding(const ModelConfig& config) { return config.causality != Causality::reference; }

void validate(const ModelConfig& config) {
  if (config.compression_factor <= config.hidden_dim) return;
  throw ConfigError(equation("compression_factor", config.compression_factor) + " is above " + equation("hidden_dim", config.hidden_dim),
                    "states are compressed to hidden_dim / compression_factor numbers; 0 does not compress");
}

std::string warning(const ModelConfig& config) {
  const std::int64_t whole = config.head_dim() * config.head_dim();
  if (config.compression_factor == 0 || config.state_size() <= whole) return "";
  return equation("compression_factor", config.compression_factor) + " expands states: " + show(config.state_size()) +
         " numbers instead of " + show(whole);
}

std::vector<WeightInfo> weights(const ModelConfig& config) {
  if (config.compression_factor == 0) return {};
  const std::int64_t whole = config.head_dim() * config.head_dim(), compressed = config.state_size();
  std::vector<WeightInfo> table;
  add_linear(table, "attention.compress_proj", compressed, whole);
  add_linear(table, "attention.decompress_proj", whole, compressed);
  return table;
}

/// The pairs of chunks of which one may see the other: causal C·(C−1)/2, block_causal and reference C·(C+1)/2, bidirectional C².
double pairs_of_chunks(Causality causality, double chunks) {
  if (causality == Causality::causal) return chunks * (chunks - 1) / 2;
  if (causality == Causality::bidirectional) return chunks * chunks;
  return chunks * (chunks + 1) / 2;
}

/// r and h: 4·D² a chunk. Within the chunk: 4·D·Σ n·(n+1)/2, for the causalities that see the whole chunk 4·D·Σ n². States and their
/// use. Mixing: 2·H·S for each pair of chunks; S = d², or D/cf. Compressing and decompressing: 2·H·S·d² a chunk each.
Flops flops(const ModelConfig& config, const FlopSizes& sizes) {
  const auto heads = static_cast<double>(config.num_heads), state = static_cast<double>(config.state_size());
  const bool half_chunk = config.causality == Causality::causal || config.causality == Causality::reference;
  const double compression = config.compression_factor == 0 ? 0 : 2 * heads * state * sizes.head * sizes.head * sizes.chunks;
  const double of_states = states(sizes) + compression;
  return {{"project", 4 * sizes.hidden * sizes.hidden * sizes.chunks},
          {"within_chunk", softmax_pairs(sizes, half_chunk ? causal_pairs(sizes) : square_pairs(sizes))},
          {"states", of_states},
          {"retrieval", of_states},
          {"mixing", 2 * heads * state * pairs_of_chunks(config.causality, sizes.chunks)}};
}

}  // namespace

Traits make_traits(Tag<Architecture::bsbr>) {
  return {.fields = {"compression_factor", "causality"},
          .chunk_projections = {"meta_r_proj", "meta_h_proj"},
          .depends_on_chunks = true,
          .is_causal = is_causal,
          .heeds_padding = heeds_padding,
          .validate = validate,
          .warning = warning,
          .weights = weights,
          .flops = flops};
}

}  // namespace bsbr
