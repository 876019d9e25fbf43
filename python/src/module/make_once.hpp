// Parts of a model that are made when they are needed.
#pragma once

#include <optional>

#include "bsbr/parallel.hpp"
#include "bsbr/weights.hpp"

namespace bsbr::python {

/// Makes what has a copy of the weights of its own, when it is needed first. Collective.
template <class Part, class Real>
void make_once(std::optional<Part>& part, const Weights<Real>& weights, MPI_Comm comm) {
  parallel::agree(comm, [&] {
    if (!part) part.emplace(weights);
  });
}

}  // namespace bsbr::python
