// Sliding window attention: softmax over the last tokens.
#include "architectures/traits.hpp"

namespace bsbr {
namespace {

/// 4·D·Σ_t min(t+1, w+1): the window grows over the first m = min(L, w+1) tokens, and is full from there.
Flops flops(const ModelConfig& config, const FlopSizes& sizes) {
  const auto grows = static_cast<double>(std::min(sizes.length, config.window_size + 1));
  return {{"attention", softmax_pairs(sizes, grows * (grows + 1) / 2 + (sizes.tokens - grows) * grows)}};
}

/// Queries, keys, values, results.
std::map<std::string, double> elements_per_token(const ModelConfig& config) {
  return {{"attention", 4 * static_cast<double>(config.attention_dim())}};
}

}  // namespace

Traits make_traits(Tag<Architecture::sliding_window>) {
  return {.fields = {"window_size"},
          .depends_on_distance = true,
          .window_field = &ModelConfig::window_size,
          .flops = flops,
          .elements_per_token = elements_per_token};
}

}  // namespace bsbr
