// How ranks share out items that do not depend on each other, such as heads, and, where there are more ranks than
// items, the rows of an item, such as its queries.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

#include "bsbr/partition.hpp"

namespace bsbr::parallel {

/// The rows of an item that one of its ranks works on: of the tiles of `tile` rows each `ranks`-th, beginning with the
/// `index`-th. Dealt out like that, ranks have about the same work in a causal triangle.
struct DealtRows {
  std::int64_t tile = 1;
  int ranks = 1, index = 0;

  KOKKOS_FUNCTION bool has(std::int64_t row) const { return row / tile % ranks == index; }

  /// The row that is number `number` of these, counted without gaps.
  KOKKOS_FUNCTION std::int64_t row(std::int64_t number) const {
    return (number / tile * ranks + index) * tile + number % tile;
  }

  /// How many of the first `rows` rows are these.
  KOKKOS_FUNCTION std::int64_t before(std::int64_t rows) const {
    const std::int64_t round = tile * ranks, rest = rows % round - tile * index;
    return rows / round * tile + (rest < 0 ? 0 : rest < tile ? rest : tile);
  }

  /// How many of the first `rows` rows belong to the ranks before this one, all together.
  KOKKOS_FUNCTION std::int64_t of_earlier_ranks(std::int64_t rows) const {
    const std::int64_t round = tile * ranks, rest = rows % round, theirs = tile * index;
    return rows / round * theirs + (rest < theirs ? rest : theirs);
  }
};

/// Which items a rank has, and which rows of them: whole items where there are no more ranks than items, else an item's
/// rows are dealt out to several ranks, neighbours, and each of them has whatever the rows are computed from.
class Dealing {
 public:
  Dealing(std::int64_t items, int ranks, std::int64_t tile) : m_items(items), m_ranks(ranks), m_tile(tile) {}

  /// Whether no item has several ranks.
  KOKKOS_FUNCTION bool whole_items() const { return m_ranks <= m_items; }

  std::int64_t first_item(int rank) const {
    return whole_items() ? items_over_ranks().begin(rank) : ranks_over_items().part_of(rank);
  }
  std::int64_t item_count(int rank) const { return whole_items() ? items_over_ranks().size(rank) : 1; }

  /// The rows of its items that a rank has.
  DealtRows rows(int rank) const {
    if (whole_items()) return {m_tile, 1, 0};
    const Partition ranks = ranks_over_items();
    const int item = ranks.part_of(rank);
    return {m_tile, static_cast<int>(ranks.size(item)), static_cast<int>(rank - ranks.begin(item))};
  }

  /// The rows that the rank has which a row of an item was dealt to.
  KOKKOS_FUNCTION DealtRows rows_with(std::int64_t item, std::int64_t row) const {
    const int ranks = whole_items() ? 1 : static_cast<int>(ranks_over_items().size(static_cast<int>(item)));
    return {m_tile, ranks, static_cast<int>(row / m_tile % ranks)};
  }

 private:
  Partition items_over_ranks() const { return {m_items, m_ranks}; }
  KOKKOS_FUNCTION Partition ranks_over_items() const { return {m_ranks, static_cast<int>(m_items)}; }

  std::int64_t m_items;
  int m_ranks;
  std::int64_t m_tile;
};

}  // namespace bsbr::parallel
