// The leaves over which an AttentionGradient sums the gradients of weights: some neighbouring chunks of one sequence.
#pragma once

#include <cstdint>

#include "bsbr/sequence.hpp"
#include "kernels/compat.hpp"

namespace bsbr::attention {

/// Some neighbouring chunks of one sequence of the batch.
struct ChunkLeaf {
  std::int64_t index, row, first, chunks;  // among this rank's leaves; sequence; first local chunk, how many
};

/// This rank's leaves of so many chunks, in order; the last one of a sequence may have fewer.
class ChunkLeaves {
 public:
  ChunkLeaves(const Sequence& sequence, std::int64_t leaf_chunks)
      : m_leaf_chunks(leaf_chunks), m_local_chunks(sequence.local_chunks()), m_batch(sequence.batch()) {}

  KOKKOS_FUNCTION std::int64_t count() const { return m_batch * of_row(); }

  KOKKOS_FUNCTION ChunkLeaf operator[](std::int64_t index) const {
    const std::int64_t first = index % of_row() * m_leaf_chunks, rest = m_local_chunks - first;
    return {index, index / of_row(), first, rest < m_leaf_chunks ? rest : m_leaf_chunks};
  }

 private:
  KOKKOS_FUNCTION std::int64_t of_row() const { return (m_local_chunks + m_leaf_chunks - 1) / m_leaf_chunks; }

  std::int64_t m_leaf_chunks, m_local_chunks, m_batch;
};

}  // namespace bsbr::attention
