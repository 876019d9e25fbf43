// Standard attention: softmax over all tokens so far.
#include "architectures/traits.hpp"

namespace bsbr {
namespace {

/// 4·D·L·(L+1)/2
Flops flops(const ModelConfig&, const FlopSizes& sizes) { return {{"attention", softmax_pairs(sizes, all_causal_pairs(sizes))}}; }

}  // namespace

Traits make_traits(Tag<Architecture::standard>) { return {.flops = flops}; }

}  // namespace bsbr
