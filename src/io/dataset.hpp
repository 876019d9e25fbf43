// Datasets of untrusted files: nothing is followed out of the file, and nothing believed that the file's size does not
// bear out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/chunk_grid.hpp"
#include "io/input_file.hpp"

namespace bsbr::io {

/// The object at `path`, reached by hard links only; nothing if it is missing. Throws ContentError for other links on
/// the way, and where a part of the path is no group.
std::optional<Handle> find_object(const InputFile& file, const std::string& path);

/// A dataset whose kind, layout, filters and shape have been looked at. Nothing is allocated for its elements.
class Dataset {
 public:
  /// Nothing if there is no such object. Throws ContentError if it is no dataset, virtual, in external storage, or
  /// needs a filter that is not HDF5's own.
  static std::optional<Dataset> find(const InputFile& file, const std::string& path);

  const std::string& path() const { return m_path; }
  const Extents& shape() const { return m_shape; }
  hid_t type() const { return m_type; }
  std::int64_t size() const;  ///< product of the shape, at most 2^62

  /// Throws ContentError unless the file holds all of the elements that the shape promises, or the writer has set the
  /// value of those that it does not hold. To be called before read().
  void check_storage();

  /// Reads the block of `count` elements from `begin`, in each dimension, as `memory_type`. Throws ContentError, also
  /// for chunks of the block with fewer bytes than they must have.
  void read(hid_t memory_type, const Extents& begin, const Extents& count, void* target) const;

 private:
  Dataset(const InputFile& file, const std::string& path);
  std::int64_t bytes() const;
  void check_contiguous(bool filled) const;
  void check_grid(std::int64_t held, bool filled);
  void require_written() const;
  std::int64_t stored_bytes(const Extents& place) const;
  void check_chunks(const Extents& begin, const Extents& count) const;
  void check_chunk(const Extents& place) const;
  [[noreturn]] void incomplete(std::int64_t stored) const;

  std::string m_path;
  Handle m_dataset, m_creation;
  std::vector<H5Z_filter_t> m_filters;  // in the order in which a chunk passes through them when it is written
  Handle m_type;
  Extents m_shape;
  std::int64_t m_file_bytes;
  std::optional<ChunkGrid> m_grid;      // of a chunked dataset, once check_storage() has been called
  mutable std::vector<bool> m_checked;  // by chunk
};

}  // namespace bsbr::io
