// How the tokens of a batch are cut into leaves, over which gradients are summed in the order of a tree
// (ordered_sum.hpp).
//
// A leaf is a range of tokens: row after row of the batch, and within a row at multiples of so many chunks as a
// function of its length and of the size of a chunk says, whatever the ranks. No rank cuts a leaf.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/sequence.hpp"
#include "config/causality.hpp"
#include "parallel/ordered_sum.hpp"

namespace bsbr::parallel {

/// What is left to be joined of a sum, without the values.
struct NoValue {};
struct JoinNothing {
  void operator()(NoValue& /*left*/, NoValue /*right*/) const {}
};
using NodesOfSum = OrderedSum<NoValue, JoinNothing>;

/// Chunks of a leaf; the last one of a row may have fewer. A Sequence that gradients are summed over is made with so
/// many chunks together. length 0 or more, chunk_size 1 or more.
std::int64_t leaf_chunks(std::int64_t length, std::int64_t chunk_size);

/// Which sequences, rows, are summed over: batch after batch, and of each batch a part by every group of ranks.
struct Batches {
  std::int64_t count = 1, rows = 1;  // rows: of a batch
  int groups = 1, group = 0;         // group: that of this rank

  /// The rows of a batch that a group has.
  Range of_group(int index) const {
    const Partition parts{rows, groups};
    return {parts.begin(index), parts.end(index)};
  }
};

/// The leaves of a batch of sequences, or of several. Those of a row are numbered from 0 on, the same in each row.
class Leaves {
 public:
  /// Throws ConfigError unless the sequences begin at position 0 and no rank cuts a leaf: they were made with
  /// leaf_chunks(length, chunk_size) chunks together.
  explicit Leaves(const Sequence& sequence) : Leaves(sequence, {.rows = sequence.batch()}) {}

  /// Of several batches. `sequence` is the part of one of them that this rank's group has, and its ranks are those of
  /// the group; all groups have as many. Throws ConfigError likewise, and unless the sequence has the group's rows.
  Leaves(const Sequence& sequence, const Batches& batches);

  std::int64_t rows() const { return m_batches.count * m_batches.rows; }
  /// Ranks are numbered group after group.
  int rank() const { return m_batches.group * m_by_rank.parts + m_rank; }
  int ranks() const { return m_batches.groups * m_by_rank.parts; }

  /// Leaves of a row, and of all rows.
  std::int64_t per_row() const { return m_by_rank.items; }
  std::int64_t count() const { return rows() * per_row(); }

  /// The rows of all batches that the group of a rank has, in their order, each by its place among all of them.
  std::vector<std::int64_t> rows_of(int rank) const;

  /// The place of a row's leaf among all of them. The row is one of all.
  std::int64_t index(std::int64_t row, std::int64_t leaf) const { return row * per_row() + leaf; }

  /// How much later the leaves of a batch are than those of the one before.
  std::int64_t per_batch() const { return m_batches.rows * per_row(); }

  /// The tree over all of them.
  OrderedTree tree() const { return OrderedTree(count()); }

  /// The positions of a leaf's tokens in its row.
  Range tokens(std::int64_t leaf) const;

  /// The leaves that a rank, or this one, has of each row.
  Range of_rank(int rank) const {
    const int in_group = rank % m_by_rank.parts;
    return {m_by_rank.begin(in_group), m_by_rank.end(in_group)};
  }
  Range local() const { return of_rank(rank()); }

  /// The nodes that a rank forms of its leaves, in order: in each row at most 2·log₂ of their number, and one where
  /// ranks and a row's leaves are powers of two.
  std::vector<TreeNode> nodes_of(int rank) const;

 private:
  Batches m_batches;
  std::int64_t m_length, m_tokens;  // m_tokens: of a leaf
  int m_rank;                       // in its group
  Partition m_by_rank;              // of the leaves of a row, in a group
};

}  // namespace bsbr::parallel
