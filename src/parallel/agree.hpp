// Makes an error on one rank an error on all ranks, so that none waits for a rank that has given up: bsbr/parallel.hpp,
// and within a forward pass.
#pragma once

#include <functional>

#include "bsbr/parallel.hpp"
#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"

namespace bsbr::parallel {

/// agree() among the ranks of a sequence, timed as the phase "agreement": mostly the time of waiting for the slowest of
/// them.
void agree(const Execution& execution, const Sequence& sequence, Profile* profile, const std::function<void()>& work);

}  // namespace bsbr::parallel
