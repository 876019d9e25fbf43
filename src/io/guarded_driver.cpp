#include "io/guarded_driver.hpp"

#include <sys/file.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <string_view>

#include "io/quiet_end.hpp"
#include "io/superblock.hpp"
#include "io/virtual_driver.hpp"

namespace bsbr::io {
namespace {

/// What HDF5 knows as an open file of this driver. `base` comes first, since HDF5 is given its address.
struct GuardedFile {
  H5FD_t base{};
  H5FD_t* posix = nullptr;
  int length_width = 8;
};

GuardedFile& guarded(H5FD_t* file) { return *reinterpret_cast<GuardedFile*>(file); }
const GuardedFile& guarded(const H5FD_t* file) { return *reinterpret_cast<const GuardedFile*>(file); }

// ---- global heaps (HDF5 File Format Specification, section III.E) ---------------------------------------------------

constexpr std::string_view heap_begin("GCOL\1\0\0\0", 8);  // signature, version, reserved
constexpr std::size_t size_at = 8;  // of a heap, and of an object: after index (2), references (2), reserved (4)
constexpr hsize_t smallest_heap = 4096;
constexpr int most_objects = 1 << 16;  // as an index has 16 bits

constexpr hsize_t padded(hsize_t bytes) { return (bytes + 7) / 8 * 8; }

/// Whether the objects of the heap at `begin` lie within it, one after the other, and it within the file.
bool is_sound_heap(const GuardedFile& file, hid_t transfer, haddr_t begin) {
  const std::size_t header = size_at + static_cast<std::size_t>(file.length_width);
  std::array<char, size_at + 8> bytes{};
  const auto read_header = [&](haddr_t at) {
    return H5FDread(file.posix, H5FD_MEM_DRAW, transfer, at, header, bytes.data()) >= 0;
  };
  const auto read_size = [&]() -> hsize_t {
    return little_endian(std::string_view(bytes.data(), header).substr(size_at));
  };

  if (!read_header(begin)) return false;
  const hsize_t size = read_size();
  const haddr_t end = H5FDget_eof(file.posix, H5FD_MEM_DRAW);
  if (size < smallest_heap || begin > end || size > end - begin) return false;
  hsize_t at = padded(header);
  for (int objects = 0; at + padded(header) <= size; ++objects) {
    if (objects > most_objects || !read_header(begin + at)) return false;
    const bool free_space = bytes[0] == 0 && bytes[1] == 0;  // index 0; its size is that of the whole of it
    if (read_size() > size) return false;
    const hsize_t taken = free_space ? read_size() : padded(header) + padded(read_size());
    if (taken < padded(header) || taken > size - at) return false;
    at += taken;
  }
  return true;
}

herr_t refuse_heap() {
  H5Epush2(H5E_DEFAULT, __FILE__, __func__, __LINE__, H5E_ERR_CLS, H5E_HEAP, H5E_BADVALUE,
           "the global heap that has its text is damaged");
  return -1;
}

// ---- what a driver does: that of POSIX, but for reading -------------------------------------------------------------

H5FD_t* open_file(const char* name, unsigned flags, hid_t access, haddr_t max_address) {
  const auto& guarded_access = *static_cast<const GuardedAccess*>(H5Pget_driver_info(access));
  auto file = std::make_unique<GuardedFile>();
  file->length_width = guarded_access.length_width;
  file->posix = H5FDopen(name, flags, guarded_access.posix, max_address);
  return file->posix == nullptr ? nullptr : &file.release()->base;
}

/// Never fails: nothing that was read is lost, and HDF5 would keep a file that it could not close, and crash over it
/// when it ends.
herr_t close_file(H5FD_t* file) {
  const std::unique_ptr<GuardedFile> closed(&guarded(file));
  if (H5FDclose(closed->posix) < 0) keep_quiet_at_the_end();
  return 0;
}

int compare(const H5FD_t* one, const H5FD_t* other) { return H5FDcmp(guarded(one).posix, guarded(other).posix); }

herr_t query(const H5FD_t* file, unsigned long* features) {
  if (file == nullptr) {
    *features = 0;
    return 0;
  }
  if (H5FDquery(guarded(file).posix, features) < 0) return -1;
  // What HDF5 has read ahead, the guard would not see the begin of.
  *features &= ~static_cast<unsigned long>(H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_POSIX_COMPAT_HANDLE);
  return 0;
}

haddr_t get_eoa(const H5FD_t* file, H5FD_mem_t type) { return H5FDget_eoa(guarded(file).posix, type); }
herr_t set_eoa(H5FD_t* file, H5FD_mem_t type, haddr_t address) {
  return H5FDset_eoa(guarded(file).posix, type, address);
}
haddr_t get_eof(const H5FD_t* file, H5FD_mem_t type) { return H5FDget_eof(guarded(file).posix, type); }

/// Fails only if another program holds a lock for writing. Where the file system has no locks, reading goes on without.
herr_t lock(H5FD_t* file, hbool_t) {
  void* handle = nullptr;
  if (H5FDget_vfd_handle(guarded(file).posix, H5P_DEFAULT, &handle) < 0) return -1;
  return ::flock(*static_cast<const int*>(handle), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK ? -1 : 0;
}

/// Closing the file unlocks it.
herr_t unlock(H5FD_t*) { return 0; }

/// HDF5 reads a heap from its begin, as if it were numbers of a dataset; what has the first bytes of a heap is one.
herr_t read(H5FD_t* file, H5FD_mem_t type, hid_t transfer, haddr_t begin, std::size_t size, void* bytes) {
  const GuardedFile& from = guarded(file);
  if (H5FDread(from.posix, type, transfer, begin, size, bytes) < 0) return -1;
  const bool heap = std::string_view(static_cast<const char*>(bytes), size).starts_with(heap_begin);
  return heap && !is_sound_heap(from, transfer, begin) ? refuse_heap() : 0;
}

herr_t write(H5FD_t*, H5FD_mem_t, hid_t, haddr_t, std::size_t, const void*) { return -1; }

H5FD_class_t driver_class() {
  H5FD_class_t driver = make_driver_class("bsbr_guarded", 511, sizeof(GuardedAccess));
  driver.open = open_file;
  driver.close = close_file;
  driver.cmp = compare;
  driver.query = query;
  driver.get_eoa = get_eoa;
  driver.set_eoa = set_eoa;
  driver.get_eof = get_eof;
  driver.read = read;
  driver.write = write;  // HDF5 asks for one
  driver.lock = lock;
  driver.unlock = unlock;
  return driver;
}

}  // namespace

void use_guarded_driver(hid_t access, const GuardedAccess& guarded) {
  static Driver driver{driver_class()};
  set_driver(access, driver, &guarded);
}

}  // namespace bsbr::io
