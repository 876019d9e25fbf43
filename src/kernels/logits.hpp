// The logits of few rows: y·Wᵀ, with the head W [vocab, D].
//
// A panel chain gives each thread rows of its own. Here there may be only one row, so on a host threads share out the
// head: a block of it is read once and meets all rows. An element is one chain of multiply-adds wherever it is formed,
// so its bits are those that token_loss.hpp's have. On a GPU all of it is one call of the BLAS.
#pragma once

#include <Kokkos_Core.hpp>
#include <vector>

#include "kernels/compat.hpp"
#include "kernels/product.hpp"
#include "kernels/token_loss.hpp"

namespace bsbr::kernels {

/// A head [vocab, D] as logits() takes it: in blocks on a host, whole on a GPU.
template <class Real>
std::vector<ProductWeight<Real>> logit_blocks(const Array<const Real**>& head) {
  if constexpr (on_host) return vocabulary_blocks<Real>(head);
  return {ProductWeight<Real>(head)};
}

/// result [rows, row_stride(vocab)] = y [rows, D] · Wᵀ; elements of a row beyond the vocabulary are not set, or zeros.
template <class Real>
void logits(const Execution& execution, const std::vector<ProductWeight<Real>>& head,
            [[maybe_unused]] const ProductWorkspace& workspace, const Array<const Real**>& y,
            const Array<Real**>& result) {
  const auto rows = static_cast<std::int64_t>(y.extent(0)), width = static_cast<std::int64_t>(y.extent(1)),
             stride = static_cast<std::int64_t>(result.extent(1));
  if constexpr (on_host) {
    using Policy = Kokkos::RangePolicy<Execution, Kokkos::Schedule<Kokkos::Dynamic>, Kokkos::IndexType<std::int64_t>>;
    Kokkos::parallel_for(
        "bsbr::logits::blocks", Policy(execution, 0, static_cast<std::int64_t>(head.size()), Kokkos::ChunkSize(1)),
        [=, blocks = head.data(), input = y.data(), product = result.data()](const std::int64_t block) {
          [[maybe_unused]] const SerialTeam team{};
          const std::int64_t first = block * tuning::vocabulary_block;
          blocks[block].multiply(rows, input, width, product + first, stride);
        });
  } else {
    head.front().multiply(execution, rows, y.data(), result.data(), workspace);
  }
}

}  // namespace bsbr::kernels
