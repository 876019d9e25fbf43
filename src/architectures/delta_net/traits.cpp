// DeltaNet: a state that is corrected towards each value, not only added to (Schlag et al. 2021).
#include "architectures/traits.hpp"

namespace bsbr {
namespace {

/// k·S, kᵀu and q·S, token by token.
Flops flops(const ModelConfig&, const FlopSizes& sizes) { return {{"scan", 3 * states(sizes)}}; }

}  // namespace

Traits make_traits(Tag<Architecture::delta_net>) { return {.fields = {"beta"}, .carries_state = true, .flops = flops}; }

}  // namespace bsbr
