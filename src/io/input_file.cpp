#include "io/input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>

#include "io/descriptor.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

constexpr std::string_view signature("\211HDF\r\n\032\n", 8);

/// Up to `size` bytes from `offset`.
std::string bytes_at(const Descriptor& file, std::int64_t offset, std::size_t size) {
  std::string bytes(size, '\0');
  bytes.resize(static_cast<std::size_t>(file.read(offset, bytes.data(), static_cast<std::int64_t>(size))));
  return bytes;
}

/// Where the signature stands: at 0, or after a user block of 512, 1024, 2048, … bytes.
std::optional<std::int64_t> find_signature(const Descriptor& file, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes; at = at == 0 ? 512 : 2 * at) {
    if (bytes_at(file, at, signature.size()) == signature) return at;
  }
  return std::nullopt;
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t number = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) number = number << 8U | static_cast<unsigned char>(bytes[i]);
  return number;
}

/// Where a file says that it ends, in its superblock (HDF5 File Format Specification, section II.A); nothing if that is cut off.
std::optional<std::uint64_t> stored_end(const Descriptor& file, std::int64_t begin) {
  const std::string block = bytes_at(file, begin, 128);
  if (block.size() < 16) return std::nullopt;
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(block[at]); };
  const bool old = byte(8) < 2;
  const std::size_t width = byte(old ? 13 : 9);
  const std::size_t addresses = old ? (byte(8) == 0 ? 24 : 28) : 12;
  if (width < 2 || width > 8 || addresses + 3 * width > block.size()) return std::nullopt;
  return little_endian(std::string_view(block).substr(addresses + 2 * width, width));
}

/// Why a file cannot be opened by HDF5, in the words that help most.
[[noreturn]] void refuse(const std::string& path, std::int64_t bytes, const std::string& reason) {
  const Descriptor file(path, O_RDONLY, "cannot be read");
  const auto begin = find_signature(file, bytes);
  if (!begin) {
    if (signature.starts_with(bytes_at(file, 0, signature.size()))) throw ContentError("is truncated: it holds " + show_bytes(bytes));
    throw ContentError("is not an HDF5 file");
  }
  const auto end = stored_end(file, *begin);
  if (!end) throw ContentError("is truncated: it holds " + show_bytes(bytes));
  if (*end > static_cast<std::uint64_t>(bytes)) {
    throw ContentError("is truncated: it holds " + std::to_string(bytes) + " bytes of " + std::to_string(*end),
                       "the copy or the program that wrote it was interrupted");
  }
  throw ContentError("cannot be read as an HDF5 file: " + reason);
}

Handle read_only_access() {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "HDF5");
  check_hdf5(H5Pset_fapl_sec2(access), "HDF5");
#if H5_VERSION_GE(1, 10, 7) && !(H5_VERSION_GE(1, 12, 0) && !H5_VERSION_GE(1, 12, 1))
  check_hdf5(H5Pset_file_locking(access, true, true), "HDF5");  // file systems without locks can be read all the same
#endif
  return access;
}

Handle open_hdf5(const std::string& path, std::int64_t bytes) {
  const Handle access = read_only_access();
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
