// HDF5 files that are written: with their room reserved first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/hdf5.hpp"
#include "io/part_file.hpp"

namespace bsbr::io {

/// <path>.part, an empty HDF5 file with disk space for its content to come. It is gone with this object unless
/// committed.
class OutputFile {
 public:
  /// There will be this many datasets, of so many bytes together. Throws ContentError.
  OutputFile(const std::string& path, std::int64_t datasets, std::int64_t data_bytes);

  const std::string& part() const { return m_file.name(); }

  /// The HDF5 file, for reading and writing. Its writes do not fail as far as HDF5 can see: see require_written().
  Handle open();

  /// Throws ContentError with the error of the first write that failed.
  void require_written() const;

  /// Closes the file, which is when HDF5 writes most, and does as require_written().
  void close(Handle& file) const;

  /// See PartFile::commit. All handles must be closed.
  void commit() { m_file.commit(); }

  /// See Descriptor::identity.
  std::int64_t identity() const { return m_file.identity(); }

 private:
  LibraryScope m_scope;
  std::int64_t m_metadata_bytes;
  PartFile m_file;
  std::optional<ContentError> m_failure;
};

/// Makes a contiguous dataset with its place in the file settled, and no elements written.
Handle create_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type);

/// The same, and writes its elements.
void write_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type,
                   const void* data);

}  // namespace bsbr::io
