// Linear attention: no softmax, one sum of kᵀv (Katharopoulos et al. 2020).
#include "architectures/traits.hpp"

namespace bsbr {
namespace {

/// kᵀv and q·S, token by token. What the kernels do besides, because tiles of tokens are faster, is not counted: so the count does not
/// depend on the chunk, as the result does not.
Flops flops(const ModelConfig&, const FlopSizes& sizes) { return {{"scan", 2 * states(sizes)}}; }

}  // namespace

Traits make_traits(Tag<Architecture::linear>) { return {.fields = {"feature_map"}, .carries_state = true, .flops = flops}; }

}  // namespace bsbr
