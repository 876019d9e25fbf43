#include "parallel/neighbours.hpp"

namespace bsbr::parallel {

/// Parts of a partition with more parts than items lie apart: the part of the item before, and that of the one behind.
Neighbours::Neighbours(const Sequence& sequence) {
  if (sequence.local_chunks() == 0) return;
  const Partition& chunks = sequence.chunks();
  const std::int64_t first = sequence.first_chunk(), end = first + sequence.local_chunks();
  if (first > 0) previous = chunks.part_of(first - 1);
  if (end < sequence.num_chunks()) next = chunks.part_of(end);
}

}  // namespace bsbr::parallel
