#include "io/input_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "io/descriptor.hpp"
#include "io/file_kind.hpp"
#include "io/guarded_driver.hpp"
#include "io/superblock.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

/// Whether another program has it open for writing, as far as the file system has locks.
bool is_locked(const Descriptor& file) { return ::flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK; }

/// Why a file cannot be opened by HDF5, in the words that help most.
[[noreturn]] void refuse(const std::string& path, std::int64_t bytes, const ContentError& error) {
  const Descriptor file(path, O_RDONLY, "cannot be read");
  if (!find_signature(file, bytes) && !is_piece_of_signature(file)) {
    const auto kind = find_file_kind(file);
    throw ContentError(std::string("is not an HDF5 file") + (kind ? " but " + kind->name : ""), kind ? kind->hint : "");
  }
  const auto superblock = read_superblock(file, bytes);
  if (!superblock) throw ContentError("is truncated: it holds " + show_bytes(bytes));
  if (superblock->version > newest_superblock) {
    throw ContentError("has a superblock of version " + std::to_string(superblock->version), newer_format_hint());
  }
  if (is_locked(file)) {
    throw ContentError("is open for writing in another program", "close it there first, or read a copy");
  }
  if (superblock->is_open) {
    throw ContentError(
        "is marked as open for writing: it is still being written, or its writer ended without closing it",
        "if no program writes to it any more, h5clear -s FILE clears the mark");
  }
  if (superblock->end > static_cast<std::uint64_t>(bytes)) {
    throw ContentError(
        "is truncated: it holds " + std::to_string(bytes) + " bytes of " + std::to_string(superblock->end),
        "the copy or the program that wrote it was interrupted");
  }
  throw error;
}

Handle posix_access() {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "HDF5");
  check_hdf5(H5Pset_fapl_sec2(access), "HDF5");
#if H5_VERSION_GE(1, 10, 7) && !(H5_VERSION_GE(1, 12, 0) && !H5_VERSION_GE(1, 12, 1))
  check_hdf5(H5Pset_file_locking(access, true, true), "HDF5");  // HDF5_USE_FILE_LOCKING=FALSE still does without
#endif
  return access;
}

/// Bytes of a length in the file's metadata; where that is not known, HDF5 cannot open the file.
int length_width(const std::string& path, std::int64_t bytes) {
  const auto superblock = read_superblock(Descriptor(path, O_RDONLY, "cannot be read"), bytes);
  return superblock ? superblock->length_width : 8;
}

Handle open_hdf5(const std::string& path, std::int64_t bytes) {
  const Handle posix = posix_access(), access(H5Pcopy(posix), H5Pclose, "HDF5");
  const GuardedAccess guarded{posix, length_width(path, bytes)};
  use_guarded_driver(access, guarded);
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access);
  if (id < 0) refuse(path, bytes, hdf5_error("cannot be read as an HDF5 file"));
  return {id, H5Fclose, "HDF5"};
}

}  // namespace

std::int64_t require_readable(const std::string& path) {
  struct stat state {};
  if (::stat(path.c_str(), &state) != 0) {
    if (errno == ENOENT) throw ContentError("there is no such file");
    throw ContentError("cannot be read: " + system_text(errno));
  }
  if (S_ISDIR(state.st_mode)) throw ContentError("is a folder, not a file");
  if (!S_ISREG(state.st_mode)) throw ContentError("is a pipe or a device, not an ordinary file");
  if (::access(path.c_str(), R_OK) != 0) throw ContentError("cannot be read: " + system_text(errno));
  if (state.st_size == 0) throw ContentError("is empty");
  return state.st_size;
}

InputFile::InputFile(const std::string& path) : m_bytes(require_readable(path)), m_file(open_hdf5(path, m_bytes)) {}

}  // namespace bsbr::io
