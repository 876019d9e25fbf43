#include "io/input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "io/descriptor.hpp"
#include "io/guarded_driver.hpp"
#include "io/superblock.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

/// Why a file cannot be opened by HDF5, in the words that help most.
[[noreturn]] void refuse(const std::string& path, std::int64_t bytes, const std::string& reason) {
  const Descriptor file(path, O_RDONLY, "cannot be read");
  if (!find_signature(file, bytes) && !is_piece_of_signature(file)) throw ContentError("is not an HDF5 file");
  const auto superblock = read_superblock(file, bytes);
  if (!superblock) throw ContentError("is truncated: it holds " + show_bytes(bytes));
  if (superblock->end > static_cast<std::uint64_t>(bytes)) {
    throw ContentError("is truncated: it holds " + std::to_string(bytes) + " bytes of " + std::to_string(superblock->end),
                       "the copy or the program that wrote it was interrupted");
  }
  throw ContentError("cannot be read as an HDF5 file: " + reason);
}

Handle posix_access() {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "HDF5");
  check_hdf5(H5Pset_fapl_sec2(access), "HDF5");
#if H5_VERSION_GE(1, 10, 7) && !(H5_VERSION_GE(1, 12, 0) && !H5_VERSION_GE(1, 12, 1))
  check_hdf5(H5Pset_file_locking(access, true, true), "HDF5");  // file systems without locks can be read all the same
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
  if (id < 0) refuse(path, bytes, hdf5_reason());
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

bool is_hdf5(const std::string& path) {
  const std::int64_t bytes = require_readable(path);
  return find_signature(Descriptor(path, O_RDONLY, "cannot be read"), bytes).has_value();
}

InputFile::InputFile(const std::string& path) : m_bytes(require_readable(path)), m_file(open_hdf5(path, m_bytes)) {}

}  // namespace bsbr::io
