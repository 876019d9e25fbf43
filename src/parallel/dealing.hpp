// How ranks share out the heads of an attention whose every token may see every other.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

#include "bsbr/partition.hpp"

namespace bsbr::parallel {

/// Queries that one rank works on: of the tiles of `tile` tokens each `ranks`-th, beginning with the `index`-th. Dealt
/// out like that, ranks have about the same work in a causal triangle.
struct DealtTokens {
  std::int64_t tile = 1;
  int ranks = 1, index = 0;

  KOKKOS_FUNCTION bool has(std::int64_t token) const { return token / tile % ranks == index; }

  /// The token of query number `query`, counted without gaps.
  KOKKOS_FUNCTION std::int64_t token(std::int64_t query) const {
    return (query / tile * ranks + index) * tile + query % tile;
  }

  /// Number of these tokens among the first `tokens` of the sequence.
  KOKKOS_FUNCTION std::int64_t before(std::int64_t tokens) const {
    const std::int64_t round = tile * ranks, rest = tokens % round - tile * index;
    return tokens / round * tile + (rest < 0 ? 0 : rest < tile ? rest : tile);
  }
};

/// Which heads a rank has, and which queries of them: whole heads where there are no more ranks than heads, else a
/// head's queries are dealt out to several ranks, and each of them has its keys and values.
class HeadDealing {
 public:
  HeadDealing(std::int64_t heads, int ranks, std::int64_t tile) : m_heads(heads), m_ranks(ranks), m_tile(tile) {}

  std::int64_t first_head(int rank) const {
    return whole() ? heads_over_ranks().begin(rank) : ranks_over_heads().part_of(rank);
  }
  std::int64_t head_count(int rank) const { return whole() ? heads_over_ranks().size(rank) : 1; }
  DealtTokens queries(int rank) const {
    if (whole()) return {m_tile, 1, 0};
    const Partition ranks = ranks_over_heads();
    const int head = ranks.part_of(rank);
    return {m_tile, static_cast<int>(ranks.size(head)), static_cast<int>(rank - ranks.begin(head))};
  }

 private:
  bool whole() const { return m_ranks <= m_heads; }
  Partition heads_over_ranks() const { return {m_heads, m_ranks}; }
  Partition ranks_over_heads() const { return {m_ranks, static_cast<int>(m_heads)}; }

  std::int64_t m_heads;
  int m_ranks;
  std::int64_t m_tile;
};

}  // namespace bsbr::parallel
