// Linear attention: no softmax, one sum of kᵀv (Katharopoulos et al. 2020).
#include "architectures/traits.hpp"

namespace bsbr {
namespace {

/// kᵀv and q·S, token by token. What the kernels do besides, because tiles of tokens are faster, is not counted: so the
/// count does not depend on the chunk, as the result does not.
Flops flops(const ModelConfig&, const FlopSizes& sizes) { return {{"scan", 2 * states(sizes)}}; }

/// The normaliser's sums are one more column.
std::int64_t state_elements(const ModelConfig& config) {
  return config.head_dim() * (config.head_dim() + (config.feature_map == FeatureMap::elu ? 1 : 0));
}

/// Queries, keys, values, results.
std::map<std::string, double> elements_per_token(const ModelConfig& config) {
  return {{"scan", 4 * static_cast<double>(config.attention_dim())}};
}

}  // namespace

Traits make_traits(Tag<Architecture::linear>) {
  return {.fields = {"feature_map", "output_norm"},
          .transfer = Transfer::state,
          .state_elements = state_elements,
          .flops = flops,
          .elements_per_token = elements_per_token};
}

}  // namespace bsbr
