// Softmax attention of any number of queries: by tiles of queries (softmax_tiles.hpp), of few on a host one by one
// (softmax_rows.hpp), with the same bits; of packed rows on a CPU with AMX by matrices (softmax_matrices.hpp), however
// many there are.
#pragma once

#include <string>

#include "kernels/softmax_matrices.hpp"
#include "kernels/softmax_rows.hpp"
#include "kernels/softmax_tiles.hpp"

namespace bsbr::kernels {

/// Computes every output row of a problem of softmax_tiles.
template <class Real, class Problem>
void softmax(const Execution& execution, const std::string& label, const Problem& problem) {
  if constexpr (on_host) {
#if !defined(__CUDACC__) && !defined(__HIPCC__)
    if constexpr (detail::may_be_packed<Real, Problem>) {
      const ProductKernel<float>* kernel = kernel_of_matrices(problem);
      if (kernel != nullptr) {
        softmax_matrices(execution, label, problem, *kernel);
        return;
      }
    }
#endif
    if (problem.last - problem.first <= HostSizes::few_queries) {
      softmax_rows<Real>(execution, label, problem);
      return;
    }
  }
  softmax_tiles<Real>(execution, label, problem);
}

}  // namespace bsbr::kernels
