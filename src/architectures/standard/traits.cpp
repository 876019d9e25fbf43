// Standard attention: softmax over all tokens so far.
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

Traits make_traits(Tag<Architecture::standard>) { return {.flops = flops, .elements_per_token = elements_per_token}; }

}  // namespace bsbr
