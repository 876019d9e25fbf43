// POSIX file descriptors, closed at the end of their scope, and their errors as exceptions.
#pragma once

#include <cstdint>
#include <string>

#include "io/hdf5.hpp"

namespace bsbr::io {

/// Throws ContentError "<doing>: <the system's words>".
[[noreturn]] void fail(const std::string& doing, int error);

class Descriptor {
 public:
  /// `flags` as for open(2). `doing` begins the message of every error: "cannot be read".
  Descriptor(const std::string& path, int flags, std::string doing);
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();

  operator int() const { return m_descriptor; }

  /// The file's size.
  std::int64_t size() const;

  /// What tells it from another file of the same name: the inode.
  std::int64_t identity() const;

  /// Reads up to `size` bytes from `offset`; fewer only at the end of the file. Returns how many.
  std::int64_t read(std::int64_t offset, void* bytes, std::int64_t size) const;

  /// Writes all of them.
  void write(std::int64_t offset, const void* bytes, std::int64_t size) const;

  /// Cuts the file, or extends it by zeros, to `size` bytes.
  void resize(std::int64_t size) const;

  /// Sees to it that what was written is on the disk.
  void sync() const;

  /// Closes a copy of the descriptor: some file systems report errors only when a file is closed, and this one stays
  /// open.
  void try_close() const;

  /// Closes it, and throws if that fails.
  void close();

 private:
  std::string m_doing;
  int m_descriptor;
};

}  // namespace bsbr::io
