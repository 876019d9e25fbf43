// Gated attention unit (Hua et al. 2022): one wide head, softmax within each chunk, the sum of the states of earlier
// chunks, and a gate.
#include "architectures/traits.hpp"
#include "config/messages.hpp"

namespace bsbr {
namespace {

void validate(const ModelConfig& config) {
  if (config.attention_dim() <= static_cast<std::int64_t>(largest_size)) return;  // at most 2^20 · 2^30: no overflow
  throw ConfigError(equation("expansion_factor", config.expansion_factor) + " times " +
                    equation("hidden_dim", config.hidden_dim) + " is above " +
                    show(static_cast<std::int64_t>(largest_size)));
}

/// 4·e·Σ n·(n+1)/2 within the chunks; states and their use.
Flops flops(const ModelConfig&, const FlopSizes& sizes) {
  return {{"within_chunk", softmax_pairs(sizes, causal_pairs(sizes))}, {"scan", 2 * states(sizes)}};
}

/// Queries, keys, values, results; the scan reads gates and results as well.
std::map<std::string, double> elements_per_token(const ModelConfig& config) {
  const auto elements = static_cast<double>(config.attention_dim());
  return {{"within_chunk", 4 * elements}, {"scan", 6 * elements}};
}

}  // namespace

Traits make_traits(Tag<Architecture::gau>) {
  return {.fields = {"expansion_factor", "state_scale", "output_norm"},
          .token_projections = {"q_proj", "k_proj", "v_proj", "gate_proj"},
          .has_one_head = true,
          .depends_on_chunks = true,
          .transfer = Transfer::state,
          .width_factor = &ModelConfig::expansion_factor,
          .validate = validate,
          .flops = flops,
          .elements_per_token = elements_per_token};
}

}  // namespace bsbr
