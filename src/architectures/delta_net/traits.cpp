// DeltaNet: a state that is corrected towards each value, not only added to (Schlag et al. 2021).
#include "architectures/traits.hpp"

namespace bsbr {
namespace {

/// k·S, kᵀu and q·S, token by token.
Flops flops(const ModelConfig&, const FlopSizes& sizes) { return {{"scan", 3 * states(sizes)}}; }

/// Queries, keys, values, results.
std::map<std::string, double> elements_per_token(const ModelConfig& config) {
  return {{"scan", 4 * static_cast<double>(config.attention_dim())}};
}

}  // namespace

Traits make_traits(Tag<Architecture::delta_net>) {
  return {.fields = {"beta"}, .transfer = Transfer::state, .flops = flops, .elements_per_token = elements_per_token};
}

}  // namespace bsbr
