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

/// The leaves of a batch of sequences. Those of a row are numbered from 0 on, the same in each row.
class Leaves {
 public:
  /// Throws ConfigError unless the sequences begin at position 0 and no rank cuts a leaf: they were made with
  /// leaf_chunks(length, chunk_size) chunks together.
  explicit Leaves(const Sequence& sequence);

  std::int64_t rows() const { return m_batch; }
  int rank() const { return m_rank; }
  int ranks() const { return m_by_rank.parts; }

  /// Leaves of a row, and of all rows.
  std::int64_t per_row() const { return m_by_rank.items; }
  std::int64_t count() const { return rows() * per_row(); }

  /// The place of a row's leaf among all of them.
  std::int64_t index(std::int64_t row, std::int64_t leaf) const { return row * per_row() + leaf; }

  /// The tree over all of them.
  OrderedTree tree() const { return OrderedTree(count()); }

  /// The positions of a leaf's tokens in its row.
  Range tokens(std::int64_t leaf) const;

  /// The leaves that a rank, or this one, has of each row.
  Range of_rank(int rank) const { return {m_by_rank.begin(rank), m_by_rank.end(rank)}; }
  Range local() const { return of_rank(m_rank); }

  /// The nodes that a rank forms of its leaves, in order: in each row at most 2·log₂ of their number, and one where
  /// ranks and a row's leaves are powers of two.
  std::vector<TreeNode> nodes_of(int rank) const;

 private:
  std::int64_t m_batch, m_length, m_tokens;  // m_tokens: of a leaf
  int m_rank;
  Partition m_by_rank;  // of the leaves of a row
};

}  // namespace bsbr::parallel
