// HDF5 files that are written: with their room reserved first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/hdf5.hpp"
#include "io/part_file.hpp"

namespace bsbr::io {

/// <path>.part, an empty HDF5 file with disk space for its content to come. It is gone with this object unless committed.
class OutputFile {
 public:
  /// There will be this many datasets, of so many bytes together. Throws ContentError.
  OutputFile(const std::string& path, std::int64_t datasets, std::int64_t data_bytes);

  const std::string& part() const { return m_file.name(); }

  /// The HDF5 file, for reading and writing. Close it with Handle::close, which tells errors.
  Handle open() const;

  /// See PartFile::commit. All handles must be closed.
  void commit() { m_file.commit(); }

  /// See Descriptor::identity.
  std::int64_t identity() const { return m_file.identity(); }

 private:
  LibraryScope m_scope;
  std::int64_t m_metadata_bytes;
  PartFile m_file;
};

/// Makes a contiguous dataset with its place in the file settled, and no numbers written.
Handle create_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type);

/// The same, and writes its numbers.
void write_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type, const void* numbers);

}  // namespace bsbr::io
