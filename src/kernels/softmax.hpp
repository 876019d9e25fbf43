// Softmax attention of any number of queries: by tiles of queries (softmax_tiles.hpp), of few on a host one by one
// (softmax_rows.hpp). The bits are the same.
#pragma once

#include <string>

#include "kernels/softmax_rows.hpp"
#include "kernels/softmax_tiles.hpp"

namespace bsbr::kernels {

/// Computes every output row of a problem of softmax_tiles.
template <class Real, class Problem>
void softmax(const Execution& execution, const std::string& label, const Problem& problem) {
  if constexpr (on_host) {
    if (problem.last - problem.first <= HostSizes::few_queries) {
      softmax_rows<Real>(execution, label, problem);
      return;
    }
  }
  softmax_tiles<Real>(execution, label, problem);
}

}  // namespace bsbr::kernels
