// The chunks that cover a dataset.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "io/hdf5.hpp"

namespace bsbr::io {

using Extents = std::vector<std::int64_t>;

/// Throws ContentError if the product is beyond 2^62, and so beyond any file. `path`: of the dataset, for the message.
std::int64_t checked_product(std::int64_t product, std::int64_t factor, const std::string& path);

class ChunkGrid {
 public:
  /// Of a chunked dataset: its creation properties, shape and bytes of an element. Throws ContentError.
  ChunkGrid(const std::string& path, hid_t creation, const Extents& shape, std::int64_t element_bytes);

  std::int64_t chunks() const { return m_chunks; }            ///< that cover the shape
  std::int64_t chunk_bytes() const { return m_chunk_bytes; }  ///< of a chunk before any filter

  /// Whether the chunk that begins at `place` reaches beyond the shape.
  bool is_partial(const Extents& place) const;

  /// Calls function(place, index) for each chunk that the block of `count` elements from `begin` meets, row by row:
  /// where in the dataset the chunk begins, and its index among all of them.
  template <class Function>
  void for_each(const Extents& begin, const Extents& count, Function&& function) const;

 private:
  std::int64_t index_of(const Extents& place) const;

  Extents m_shape, m_chunk;
  std::int64_t m_chunks = 1, m_chunk_bytes;
};

template <class Function>
void ChunkGrid::for_each(const Extents& begin, const Extents& count, Function&& function) const {
  Extents first(begin.size());
  for (std::size_t d = 0; d < first.size(); ++d) {
    if (count[d] == 0) return;
    first[d] = begin[d] / m_chunk[d] * m_chunk[d];
  }
  Extents place = first;
  for (bool more = true; more;) {
    function(std::as_const(place), index_of(place));
    more = false;
    for (std::size_t d = place.size(); d-- > 0 && !more;) {
      more = m_chunk[d] < begin[d] + count[d] - place[d];
      place[d] = more ? place[d] + m_chunk[d] : first[d];
    }
  }
}

}  // namespace bsbr::io
