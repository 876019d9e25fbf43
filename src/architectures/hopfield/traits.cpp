// Hopfield attention: one retrieval step of a modern Hopfield network (Ramsauer et al. 2020), with values as a separate
// projection.
#include "architectures/traits.hpp"

namespace bsbr {
namespace {

/// 4·D·L·(L+1)/2
Flops flops(const ModelConfig&, const FlopSizes& sizes) {
  return {{"attention", softmax_pairs(sizes, all_causal_pairs(sizes))}};
}

/// Queries, keys, values, results.
std::map<std::string, double> elements_per_token(const ModelConfig& config) {
  return {{"attention", 4 * static_cast<double>(config.attention_dim())}};
}

}  // namespace

Traits make_traits(Tag<Architecture::hopfield>) {
  return {.fields = {"temperature"}, .flops = flops, .elements_per_token = elements_per_token};
}

}  // namespace bsbr
