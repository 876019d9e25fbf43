// Datasets of files from strangers: nothing is followed out of the file, and nothing believed that the file's size does not bear out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/input_file.hpp"

namespace bsbr::io {

/// The object at `path`, reached by hard links only; nothing if it is missing. Throws ContentError for other links on the way, and where
/// a part of the path is no group.
std::optional<Handle> find_object(const InputFile& file, const std::string& path);

/// A dataset whose kind, layout, filters and shape have been looked at. Nothing is allocated for its numbers.
class Dataset {
 public:
  /// Nothing if there is no such object. Throws ContentError if it is no dataset, virtual, in external storage, or needs a filter that is
  /// not HDF5's own.
  static std::optional<Dataset> find(const InputFile& file, const std::string& path);

  const std::string& path() const { return m_path; }
  const std::vector<std::int64_t>& shape() const { return m_shape; }
  hid_t type() const { return m_type; }
  std::int64_t size() const;  ///< product of the shape, at most 2^62

  /// Throws ContentError unless the file holds all of the numbers that the shape promises.
  void check_storage(const InputFile& file) const;

  /// Reads the block of `count` numbers from `begin`, in each dimension, as `memory_type`.
  void read(hid_t memory_type, const std::vector<std::int64_t>& begin, const std::vector<std::int64_t>& count, void* target) const;

 private:
  Dataset(const InputFile& file, const std::string& path);
  std::int64_t bytes() const;
  void check_contiguous(const InputFile& file) const;
  void check_chunks() const;
  [[noreturn]] void incomplete(std::int64_t stored) const;

  std::string m_path;
  Handle m_dataset, m_creation;
  std::vector<H5Z_filter_t> m_filters;  // in the order in which a chunk passes through them when it is written
  Handle m_type;
  std::vector<std::int64_t> m_shape;
};

}  // namespace bsbr::io
