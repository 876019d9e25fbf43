#include "parallel/leaves.hpp"

#include <algorithm>
#include <string>

#include "bsbr/error.hpp"
#include "kernels/sizes.hpp"

namespace bsbr::parallel {
namespace {

constexpr const char* gradient_hint = "use gradient_sequence(comm, batch, length, chunk_size)";

}  // namespace

std::int64_t leaf_chunks(std::int64_t length, std::int64_t chunk_size) {
  using Sizes = kernels::CommonSizes;
  const std::int64_t chunks = Partition{length, 1, chunk_size}.units();
  const std::int64_t most = std::max<std::int64_t>(1, Sizes::gradient_leaf_tokens / chunk_size);
  return std::clamp<std::int64_t>(chunks / Sizes::gradient_leaves, 1, most);
}

Leaves::Leaves(const Sequence& sequence, const Batches& batches)
    : m_batches(batches), m_length(sequence.length()), m_rank(sequence.rank()) {
  const Range rows = batches.of_group(batches.group);
  if (rows.end - rows.begin != sequence.batch()) {
    throw ConfigError("gradients are summed over " + std::to_string(rows.end - rows.begin) +
                      " rows of each batch by this group of ranks, and its sequence has " +
                      std::to_string(sequence.batch()));
  }
  const std::int64_t chunks = leaf_chunks(sequence.length(), sequence.chunk_size());
  if (sequence.origin() != 0) {
    throw ConfigError(
        "gradients are summed over whole sequences, and these begin at position " + std::to_string(sequence.origin()),
        gradient_hint);
  }
  if (sequence.chunks().unit != chunks) {
    throw ConfigError("gradients of " + std::to_string(m_length) + " tokens in chunks of " +
                          std::to_string(sequence.chunk_size()) + " are summed over leaves of " +
                          std::to_string(chunks) + " chunks, and ranks divide the sequence by " +
                          std::to_string(sequence.chunks().unit),
                      gradient_hint);
  }
  m_tokens = chunks * sequence.chunk_size();
  m_by_rank = {sequence.chunks().units(), sequence.ranks()};
}

Range Leaves::tokens(std::int64_t leaf) const {
  const std::int64_t begin = leaf * m_tokens;
  return {begin, begin + std::min(m_tokens, m_length - begin)};
}

std::vector<std::int64_t> Leaves::rows_of(int rank) const {
  const Range of_batch = m_batches.of_group(rank / m_by_rank.parts);
  std::vector<std::int64_t> rows;
  for (std::int64_t batch = 0; batch < m_batches.count; ++batch) {
    for (std::int64_t row = of_batch.begin; row < of_batch.end; ++row) rows.push_back(batch * m_batches.rows + row);
  }
  return rows;
}

std::vector<TreeNode> Leaves::nodes_of(int rank) const {
  NodesOfSum sum(tree());
  const Range leaves = of_rank(rank);
  for (const std::int64_t row : rows_of(rank)) {
    for (const TreeNode node : sum.tree().nodes_of(index(row, leaves.begin), index(row, leaves.end)))
      sum.add(node, NoValue());
  }
  std::vector<TreeNode> nodes;
  for (const auto& node : sum.nodes()) nodes.push_back(node.place);
  return nodes;
}

}  // namespace bsbr::parallel
