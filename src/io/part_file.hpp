// Files that are made under another name and renamed when they are whole: under their own name there is never half of
// one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/descriptor.hpp"
#include "io/unfinished.hpp"

namespace bsbr::io {

/// Throws ContentError if `path` surely cannot be written: its folder is missing or not writable, or it is a folder or
/// a device.
void require_writable(const std::string& path);

/// <path>.part, an empty file. It is gone with this object unless committed, and whatever else ends the process: see
/// UnfinishedFile.
class PartFile {
 public:
  /// Throws ContentError.
  explicit PartFile(const std::string& path);
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;
  ~PartFile();

  const std::string& name() const { return m_part; }
  const Descriptor& descriptor() const {
    return m_file;
  }  ///< open as long as this lives, so that no other file can get its inode
  std::int64_t identity() const { return m_identity; }  ///< see Descriptor::identity

  /// Throws ContentError if another run has put its own file in the place of this.
  void require_ours() const;

  /// Sees to it that the disk has all of the file, then gives it its name. Throws ContentError.
  void commit();

 private:
  std::string m_path, m_part;
  Descriptor m_file;
  std::int64_t m_identity;
  std::optional<UnfinishedFile> m_unfinished;  // until it is committed
};

}  // namespace bsbr::io
