// What forward and gradient of a whole model share, besides the layers.
#pragma once

#include <string>

#include "bsbr/error.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/weights.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/rows.hpp"
#include "parallel/mpi.hpp"

namespace bsbr {

/// Whether a workspace that was made for one sequence serves another.
inline bool same_part(const Sequence& a, const Sequence& b) {
  return a.batch() == b.batch() && a.length() == b.length() && a.chunk_size() == b.chunk_size() &&
         a.origin() == b.origin() && a.chunks().unit == b.chunks().unit && parallel::same_comm(a.comm(), b.comm());
}

/// Whether such a workspace may be moved to another sequence, which is on the same ranks: all ranks say the same.
inline bool same_shape(const Sequence& a, const Sequence& b) {
  return a.ranks() == 1 && b.ranks() == 1 && a.batch() == b.batch() && a.length() == b.length() &&
         a.num_chunks() == b.num_chunks() && a.chunk_size() == b.chunk_size() &&
         parallel::same_comm(a.comm(), b.comm());
}

/// Throws ShapeError unless ids are [batch, local tokens] and all within the vocabulary.
inline void validate_ids(const Execution& execution, const Sequence& sequence, const Array<const std::int32_t**>& ids,
                         std::int64_t vocab_size) {
  const auto batch = static_cast<std::int64_t>(ids.extent(0)), tokens = static_cast<std::int64_t>(ids.extent(1));
  if (batch != sequence.batch() || tokens != sequence.local_tokens()) {
    throw ShapeError("ids are [" + std::to_string(batch) + ", " + std::to_string(tokens) +
                     "], this rank's part of the sequence [" + std::to_string(sequence.batch()) + ", " +
                     std::to_string(sequence.local_tokens()) + "]");
  }
  std::int64_t others = 0;
  Kokkos::parallel_reduce(
      "bsbr::model::validate_ids", Kokkos::RangePolicy<Execution>(execution, 0, batch * tokens),
      KOKKOS_LAMBDA(const std::int64_t i, std::int64_t& count) {
        const std::int32_t id = ids(i / tokens, i % tokens);
        count += id < 0 || id >= vocab_size ? 1 : 0;
      },
      others);
  if (others > 0)
    throw ShapeError(std::to_string(others) + " ids are not within 0 to " + std::to_string(vocab_size - 1));
}

/// x = norm(x), [batch, local tokens, hidden_dim].
template <class Real>
void final_norm(const Execution& execution, const Weights<Real>& weights, const Array<Real***>& x) {
  const Array<const Real*> weight = weights.vector("layer_norm.weight"), bias = weights.vector("layer_norm.bias");
  kernels::for_each_row(
      execution, "bsbr::model::final_norm", x, KOKKOS_LAMBDA(const kernels::Team& team, Real* row) {
        kernels::layer_norm(team, static_cast<int>(weight.extent(0)), row, weight.data(), bias.data(), row);
      });
}

/// The head's matrix, [vocab, hidden_dim]. Throws ConfigError if there is none.
template <class Real>
Array<const Real**> head_matrix(const Weights<Real>& weights) {
  require_head(weights.config());
  return weights.matrix(weights.config().head == Head::tied ? "embedding.weight" : "lm_head.weight");
}

}  // namespace bsbr
