// Files that are read: from an open file to one that can be trusted to be a whole HDF5 file.
#pragma once

#include <cstdint>
#include <string>

#include "io/hdf5.hpp"

namespace bsbr::io {

/// The size in bytes of a file that is there, is an ordinary file, may be read and is not empty. Throws ContentError.
std::int64_t require_readable(const std::string& path);

/// An HDF5 file that is open for reading.
class InputFile {
 public:
  /// Throws ContentError: missing, a folder, empty, no HDF5 file, truncated, damaged.
  explicit InputFile(const std::string& path);

  hid_t id() const { return m_file; }
  std::int64_t bytes() const { return m_bytes; }  ///< what the file system says, not what the file says of itself

 private:
  LibraryScope m_scope;
  std::int64_t m_bytes;
  Handle m_file;
};

}  // namespace bsbr::io
