// Prefixes of a sum over leaves that ranks share out, in an order that depends on the leaves' indices only.
//
// Leaves are joined by aligned nodes: a node of level k is that of 2^k leaves from a multiple of 2^k on, left half then
// right half. V(b) is the largest node that ends before leaf b, of lowbit(b) leaves. The prefix before leaf b is that
// of the nodes in the binary expansion of b, largest first:
//
//     S(b) = S(b − lowbit(b)) then V(b),   S(0) = nothing
//
// (A Fenwick tree.) V(b) lies where leaf b − 1 does, and S(b) takes its place. Going up, level by level, V(b) is formed
// of leaf b − 1 and the left halves that end before it; going down, S(b) is formed of V(b) and an earlier prefix. So
// log₂(leaves) steps lead to all prefixes, and at each a rank receives at most one node and sends at most one.
#pragma once

#include <cstdint>

namespace bsbr::parallel {

/// Places of a tree's nodes b = first, first + stride, … of them `count`.
struct TreeNodes {
  std::int64_t first = 0, stride = 1, count = 0;
};

/// What the owner of the leaves [begin, end) does at each level. Nodes are named by b, the leaf that they end before;
/// 0: there is none.
class PrefixTree {
 public:
  /// leaves: all of them; those of other ranks come before and behind.
  PrefixTree(std::int64_t leaves, std::int64_t begin, std::int64_t end)
      : m_leaves(leaves), m_begin(begin), m_end(end) {}

  /// Levels of `leaves` leaves.
  static int levels(std::int64_t leaves);
  int levels() const { return levels(m_leaves); }

  std::int64_t leaves() const { return m_leaves; }
  std::int64_t begin() const { return m_begin; }
  std::int64_t end() const { return m_end; }
  bool owns(std::int64_t b) const { return b > m_begin && b <= m_end; }

  // Going up, level 0 first: V(b − 2^level) is put before what has been formed of V(b), for b multiples of 2^(level+1).

  /// Those whose left half is this owner's, too.
  TreeNodes merges(int level) const;
  /// The one whose left half is not.
  std::int64_t merge_with_others(int level) const;
  /// The left half that is this owner's, but what it is merged into is not: that is b + 2^level.
  std::int64_t left_half_for_others(int level) const;

  // Going down, highest level first: S(b) = S(b − 2^level) then V(b), for b odd multiples of 2^level. S(0) is nothing,
  // so that b = 2^level needs nothing done.

  /// Those whose earlier prefix is this owner's, too.
  TreeNodes prefixes(int level) const;
  /// The one whose earlier prefix, that of b − 2^level, is not.
  std::int64_t prefix_with_others(int level) const;
  /// The prefix that is this owner's, but what it leads to is not: that is b + 2^level.
  std::int64_t prefix_for_others(int level) const;

 private:
  std::int64_t m_leaves, m_begin, m_end;
};

/// The level k of V(b): lowbit(b) = 2^k.
int level_of(std::int64_t b);

}  // namespace bsbr::parallel
