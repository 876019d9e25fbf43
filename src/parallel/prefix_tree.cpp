#include "parallel/prefix_tree.hpp"

#include <algorithm>
#include <bit>

#include "parallel/tree_level.hpp"

namespace bsbr::parallel {
namespace {

/// Multiples of `stride`, plus `shift` < stride, in (begin, end].
TreeNodes nodes_in(std::int64_t begin, std::int64_t end, std::int64_t stride, std::int64_t shift) {
  const std::int64_t first = begin < shift ? shift : (begin - shift) / stride * stride + stride + shift;
  return {first, stride, first > end ? 0 : (end - first) / stride + 1};
}

}  // namespace

int level_of(std::int64_t b) { return std::countr_zero(static_cast<std::uint64_t>(b)); }

int PrefixTree::levels(std::int64_t leaves) {
  return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(leaves)));
}

TreeNodes PrefixTree::merges(int level) const {
  return nodes_in(m_begin + leaves_of(level), m_end, leaves_of(level + 1), 0);
}

std::int64_t PrefixTree::merge_with_others(int level) const {
  const TreeNodes nodes = nodes_in(m_begin, std::min(m_end, m_begin + leaves_of(level)), leaves_of(level + 1), 0);
  return nodes.count > 0 ? nodes.first : 0;
}

std::int64_t PrefixTree::left_half_for_others(int level) const {
  const std::int64_t b = m_end / leaves_of(level) * leaves_of(level);
  return b / leaves_of(level) % 2 == 1 && owns(b) && b + leaves_of(level) <= m_leaves ? b : 0;
}

TreeNodes PrefixTree::prefixes(int level) const {
  return nodes_in(m_begin + leaves_of(level), m_end, leaves_of(level + 1), leaves_of(level));
}

std::int64_t PrefixTree::prefix_with_others(int level) const {
  const std::int64_t last = std::min(m_end, m_begin + leaves_of(level));
  const TreeNodes nodes = nodes_in(m_begin, last, leaves_of(level + 1), leaves_of(level));
  return nodes.count > 0 && nodes.first > leaves_of(level) ? nodes.first : 0;
}

std::int64_t PrefixTree::prefix_for_others(int level) const {
  const std::int64_t b = m_end / leaves_of(level + 1) * leaves_of(level + 1);
  return owns(b) && b + leaves_of(level) > m_end && b + leaves_of(level) <= m_leaves ? b : 0;
}

}  // namespace bsbr::parallel
