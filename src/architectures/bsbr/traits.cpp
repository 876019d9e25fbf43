// Block sparse attention with block retrieval: softmax attention within each chunk, and a retrieval of whole chunks'
// states between them.
#include "architectures/traits.hpp"
#include "config/causality.hpp"
#include "config/messages.hpp"
#include "config/weight_table.hpp"

namespace bsbr {
namespace {

bool is_causal(const ModelConfig& config) { return config.causality == Causality::causal; }

bool heeds_padding(const ModelConfig& config) { return config.causality != Causality::reference; }

void validate(const ModelConfig& config) {
  if (config.compression_factor <= config.hidden_dim) return;
  throw ConfigError(equation("compression_factor", config.compression_factor) + " is above " +
                        equation("hidden_dim", config.hidden_dim),
                    "states are compressed to hidden_dim / compression_factor elements; 0 does not compress");
}

std::string warning(const ModelConfig& config) {
  const std::int64_t whole = config.head_dim() * config.head_dim();
  if (config.compression_factor == 0 || config.state_size() <= whole) return "";
  return equation("compression_factor", config.compression_factor) + " expands states: " + show(config.state_size()) +
         " elements instead of " + show(whole);
}

std::vector<WeightInfo> weights(const ModelConfig& config) {
  const std::int64_t whole = config.head_dim() * config.head_dim(), compressed = config.state_size();
  std::vector<WeightInfo> table;
  if (config.compression_factor > 0) {
    add_linear(table, "attention.compress_proj", compressed, whole);
    add_linear(table, "attention.decompress_proj", whole, compressed);
  }
  const auto add_zeros = [&](const char* name) {
    table.push_back({name, {config.num_heads}, Initialisation::zeros, 0});
  };
  if (config.null_chunk > 0) add_zeros("attention.null_logit");
  if (config.retrieval_gate > 0) add_zeros("attention.retrieval_gate");
  return table;
}

/// Σ |seen(i)| over i in [0, count): sizes that grow or shrink by the same step.
template <class Seen>
double sum_of_sizes(double count, const Seen& seen) {
  const auto size = [&](std::int64_t i) { return static_cast<double>(seen(i).end - seen(i).begin); };
  return count == 0 ? 0 : count * (size(0) + size(static_cast<std::int64_t>(count) - 1)) / 2;
}

/// Pairs of a token and one that it sees, in a chunk of so many tokens.
double pairs_of_tokens(Causality causality, std::int64_t tokens) {
  return sum_of_sizes(static_cast<double>(tokens), [=](std::int64_t t) {
    return tokens_seen(causality, t, {0, tokens});
  });
}

/// r and h: 4·D² a chunk. Within the chunks: 4·D for each pair of tokens. States and their use. Mixing: 2·H·S for each
/// pair of chunks; S = d², or D/cf. Compressing and decompressing: 2·H·S·d² a chunk each.
Flops flops(const ModelConfig& config, const FlopSizes& sizes) {
  const auto heads = static_cast<double>(config.num_heads), state = static_cast<double>(config.state_size());
  const std::int64_t whole_chunks = sizes.length / config.chunk_size, tail = sizes.length % config.chunk_size;
  const double pairs = static_cast<double>(whole_chunks) * pairs_of_tokens(config.causality, config.chunk_size) +
                       pairs_of_tokens(config.causality, tail);
  const double pairs_of_chunks = sum_of_sizes(sizes.chunks, [&](std::int64_t i) {
    return chunks_seen(config.causality, i, static_cast<std::int64_t>(sizes.chunks));
  });
  const double compression =
      config.compression_factor == 0 ? 0 : 2 * heads * state * sizes.head * sizes.head * sizes.chunks;
  const double of_states = states(sizes) + compression;
  return {{"project", 4 * sizes.hidden * sizes.hidden * sizes.chunks},
          {"within_chunk", softmax_pairs(sizes, pairs)},
          {"states", of_states},
          {"retrieval", of_states},
          {"mixing", 2 * heads * state * pairs_of_chunks}};
}

/// A state is of H·S elements a chunk.
std::map<std::string, double> elements_per_token(const ModelConfig& config) {
  const auto elements = static_cast<double>(config.attention_dim());
  const double of_states =
      static_cast<double>(config.num_heads * config.state_size()) / static_cast<double>(config.chunk_size);
  return {{"states", 2 * elements + of_states},
          {"within_chunk", 4 * elements},
          {"mixing", 2 * of_states},
          {"retrieval", 3 * elements + of_states}};
}

}  // namespace

Traits make_traits(Tag<Architecture::bsbr>) {
  return {.fields = {"compression_factor", "causality", "state_scale", "null_chunk", "retrieval_gate", "router_key"},
          .chunk_projections = {"meta_r_proj", "meta_h_proj"},
          .depends_on_chunks = true,
          .transfer = Transfer::chunk_states,
          .is_causal = is_causal,
          .heeds_padding = heeds_padding,
          .validate = validate,
          .warning = warning,
          .weights = weights,
          .flops = flops,
          .elements_per_token = elements_per_token};
}

}  // namespace bsbr
