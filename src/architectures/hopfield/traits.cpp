// Hopfield attention: one retrieval step of a modern Hopfield network (Ramsauer et al. 2020), with values as a separate projection.
#include "architectures/traits.hpp"

namespace bsbr {
namespace {

/// 4·D·L·(L+1)/2
Flops flops(const ModelConfig&, const FlopSizes& sizes) { return {{"attention", softmax_pairs(sizes, all_causal_pairs(sizes))}}; }

}  // namespace

Traits make_traits(Tag<Architecture::hopfield>) { return {.fields = {"temperature"}, .flops = flops}; }

}  // namespace bsbr
