#include "io/chunk_grid.hpp"

#include <algorithm>
#include <limits>

#include "io/text.hpp"

namespace bsbr::io {

std::int64_t checked_product(std::int64_t product, std::int64_t factor, const std::string& path) {
  const __int128 exact = static_cast<__int128>(product) * factor;
  if (exact > std::int64_t{1} << 62)
    throw ContentError(printable(path) + " claims to hold more elements than any file can");
  return static_cast<std::int64_t>(exact);
}

ChunkGrid::ChunkGrid(const std::string& path, hid_t creation, const Extents& shape, std::int64_t element_bytes)
    : m_shape(shape), m_chunk_bytes(element_bytes) {
  std::vector<hsize_t> extents(shape.size());
  check_hdf5(H5Pget_chunk(creation, static_cast<int>(extents.size()), extents.data()),
             printable(path) + " cannot be read");
  for (std::size_t d = 0; d < extents.size(); ++d) {
    m_chunk.push_back(
        static_cast<std::int64_t>(std::clamp<hsize_t>(extents[d], 1, std::numeric_limits<std::int64_t>::max())));
    m_chunk_bytes = checked_product(m_chunk_bytes, m_chunk[d], path);
    m_chunks *= shape[d] / m_chunk[d] + (shape[d] % m_chunk[d] != 0 ? 1 : 0);  // at most the size of the dataset
  }
}

bool ChunkGrid::is_partial(const Extents& place) const {
  for (std::size_t d = 0; d < place.size(); ++d) {
    if (m_chunk[d] > m_shape[d] - place[d]) return true;
  }
  return false;
}

std::int64_t ChunkGrid::index_of(const Extents& place) const {
  std::int64_t index = 0;
  for (std::size_t d = 0; d < place.size(); ++d)
    index = index * ((m_shape[d] - 1) / m_chunk[d] + 1) + place[d] / m_chunk[d];
  return index;
}

}  // namespace bsbr::io
