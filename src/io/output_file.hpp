// Files that are written: made under another name with their room reserved, and renamed when they are whole.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/descriptor.hpp"
#include "io/hdf5.hpp"
#include "io/unfinished.hpp"

namespace bsbr::io {

/// Throws ContentError if `path` surely cannot be written: its folder is missing or not writable, or it is a folder or a device.
void require_writable(const std::string& path);

/// <path>.part, an empty HDF5 file with disk space for its content to come. It is gone with this object unless committed.
class OutputFile {
 public:
  /// There will be this many datasets, of so many bytes together. Throws ContentError.
  OutputFile(const std::string& path, std::int64_t datasets, std::int64_t data_bytes);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  const std::string& part() const { return m_part; }

  /// The HDF5 file, for reading and writing. Close it with Handle::close, which tells errors.
  Handle open() const;

  /// Sees to it that the disk has it all, then gives the file its name. All handles must be closed. Throws ContentError if another run has
  /// put its own file in the place of <path>.part meanwhile.
  void commit();

  /// See Descriptor::identity.
  std::int64_t identity() const { return m_file->identity(); }

 private:
  void require_ours(const Descriptor& file) const;

  LibraryScope m_scope;
  std::string m_path, m_part;
  std::int64_t m_metadata_bytes;
  std::unique_ptr<Descriptor> m_file;  // open as long as this lives, so that no other file can get its inode
  std::optional<UnfinishedFile> m_unfinished;
  bool m_committed = false;
};

/// Makes a contiguous dataset with its place in the file settled, and no numbers written.
Handle create_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type);

/// The same, and writes its numbers.
void write_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type, const void* numbers);

}  // namespace bsbr::io
