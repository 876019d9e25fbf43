#include "io/output_file.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "io/descriptor.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

constexpr std::int64_t usual_metadata = 1 << 15;    // superblock, root group, attributes
constexpr std::int64_t dataset_metadata = 1 << 10;  // header of a dataset, and its entry in a group
constexpr std::int64_t alignment = 1 << 12;         // of everything that is at least as large

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

void require_folder(const std::string& folder) {
  struct stat state {};
  const std::string shown = "the folder " + printable(folder);
  if (::stat(folder.c_str(), &state) != 0) {
    if (errno == ENOENT) throw ContentError(shown + " does not exist");
    fail(shown + " cannot be used", errno);
  }
  if (!S_ISDIR(state.st_mode)) throw ContentError(printable(folder) + " is not a folder");
  if (::access(folder.c_str(), W_OK | X_OK) != 0) fail(shown + " cannot be written to", errno);
}

/// In a folder like /tmp only its owner may replace a file: said before the work is done rather than by rename() after it.
void require_owner(const std::string& path, const struct stat& file, const std::string& shown) {
  struct stat folder {};
  if (::stat(folder_of(path).c_str(), &folder) != 0 || (folder.st_mode & S_ISVTX) == 0) return;
  const uid_t user = ::geteuid();
  if (user == 0 || user == file.st_uid || user == folder.st_uid) return;
  throw ContentError(shown + "belongs to another user, and its folder lets only owners replace their files");
}

/// What stands under the name already may be replaced if it is a file.
void require_replaceable(const std::string& path, const std::string& shown) {
  struct stat state {};
  if (::stat(path.c_str(), &state) != 0) {
    if (errno != ENOENT) fail(shown + "cannot be written", errno);
    return;
  }
  if (S_ISDIR(state.st_mode)) throw ContentError(shown + "is a folder");
  if (!S_ISREG(state.st_mode)) throw ContentError(shown + "is a pipe or a device, not an ordinary file");
  require_owner(path, state, shown);
}

std::string part_of(const std::string& path) { return path + ".part"; }

[[noreturn]] void no_space(int error, std::int64_t bytes, const std::string& folder) {
  std::string text = "needs " + show_bytes(bytes) + ": ";
  if (error == EFBIG) throw ContentError(text + "larger than a file may be here", "ulimit -f shows the limit of this process");
  if (error == EDQUOT) throw ContentError(text + "no space left within the disk quota");
  struct statvfs state {};
  text += "no space left on the device";
  if (::statvfs(folder.c_str(), &state) == 0) {
    text += ", which has " + show_bytes(static_cast<std::int64_t>(state.f_bavail) * static_cast<std::int64_t>(state.f_frsize));
  }
  throw ContentError(text);
}

/// Asked for rather than tried: trying would raise SIGXFSZ.
bool exceeds_limit(std::int64_t bytes) {
  struct rlimit limit {};
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && static_cast<rlim_t>(bytes) > limit.rlim_cur;
}

/// Reserves blocks of the disk; 0 or the error. EOPNOTSUPP where the file system, or the system, cannot.
int allocate_blocks([[maybe_unused]] int file, [[maybe_unused]] std::int64_t bytes) {
#ifdef __linux__
  while (::fallocate(file, 0, 0, bytes) != 0) {
    if (errno != EINTR) return errno == ENOSYS || errno == EINVAL ? EOPNOTSUPP : errno;
  }
  return 0;
#else
  return EOPNOTSUPP;
#endif
}

/// Where blocks cannot be reserved: HDF5 must at least not fail when it writes its metadata, because then it cannot even close the file.
void fill_metadata(const Descriptor& file, std::int64_t bytes) {
  const std::string zeros(static_cast<std::size_t>(bytes), '\0');
  file.write(0, zeros.data(), bytes);
  file.sync();
}

void reserve(const Descriptor& file, std::int64_t bytes, std::int64_t metadata_bytes, const std::string& path) {
  if (exceeds_limit(bytes)) no_space(EFBIG, bytes, folder_of(path));
  const int error = allocate_blocks(file, bytes);
  if (error == 0) return;
  if (error != EOPNOTSUPP) no_space(error, bytes, folder_of(path));
  struct statvfs state {};
  if (::fstatvfs(file, &state) == 0 &&
      static_cast<double>(state.f_bavail) * static_cast<double>(state.f_frsize) < static_cast<double>(bytes)) {
    no_space(ENOSPC, bytes, folder_of(path));
  }
  fill_metadata(file, metadata_bytes);
}

/// Readable by HDF5 1.8, as far as what is put into the file allows, and by 1.10 in any case.
void set_versions(hid_t access) {
#if H5_VERSION_GE(1, 10, 2)
  check_hdf5(H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110), "HDF5");
#endif
}

/// The bytes of an HDF5 file with nothing in it. They are put into a file that has its blocks already: H5Fcreate would give them back.
std::string empty_image() {
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "HDF5");
  check_hdf5(H5Pset_fapl_core(access, 1 << 16, false), "HDF5");
  set_versions(access);
  const Handle file(H5Fcreate("bsbr", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose, "HDF5");
  check_hdf5(H5Fflush(file, H5F_SCOPE_GLOBAL), "HDF5");
  std::string image(static_cast<std::size_t>(check_hdf5(H5Fget_file_image(file, nullptr, 0), "HDF5")), '\0');
  check_hdf5(H5Fget_file_image(file, image.data(), image.size()), "HDF5");
  return image;
}

/// Makes the new name last. The file is whole and in its place by now, so a folder that cannot be synced is no error.
void sync_folder(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

std::unique_ptr<Descriptor> create(const std::string& part, std::int64_t bytes, std::int64_t metadata_bytes) {
  // A file that a killed run has left, or is still writing to, is not written into: this one is another.
  if (::unlink(part.c_str()) != 0 && errno != ENOENT) fail(printable(part) + " cannot be replaced", errno);
  auto file = std::make_unique<Descriptor>(part, O_CREAT | O_EXCL | O_RDWR, "cannot be written");
  try {
    reserve(*file, bytes, metadata_bytes, part);
    const std::string image = empty_image();
    file->write(0, image.data(), static_cast<std::int64_t>(image.size()));
    return file;
  } catch (...) {
    ::unlink(part.c_str());
    throw;
  }
}

}  // namespace

void require_writable(const std::string& path) {
  if (path.empty()) throw ContentError("the name of the output is empty");
  require_replaceable(path, "");
  if (std::filesystem::path(path).filename().empty()) throw ContentError("is the name of a folder");
  require_folder(folder_of(path));
  require_replaceable(part_of(path), printable(part_of(path)) + " ");
}

OutputFile::OutputFile(const std::string& path, std::int64_t datasets, std::int64_t data_bytes)
    : m_path(path), m_part(part_of(path)), m_metadata_bytes(usual_metadata + datasets * dataset_metadata) {
  require_writable(path);
  m_file = create(m_part, m_metadata_bytes + data_bytes + datasets * alignment, m_metadata_bytes);
  m_unfinished.emplace(m_part, identity());
}

OutputFile::~OutputFile() {
  struct stat state {};
  const bool ours = ::stat(m_part.c_str(), &state) == 0 && static_cast<std::int64_t>(state.st_ino) == identity();
  if (!m_committed && ours) ::unlink(m_part.c_str());
}

void OutputFile::require_ours(const Descriptor& file) const {
  if (file.identity() == identity()) return;
  throw ContentError("cannot be finished: another run has replaced " + printable(m_part), "one run at a time can write a file");
}

Handle OutputFile::open() const {
  require_ours(Descriptor(m_part, O_RDONLY, "cannot be written"));
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "HDF5");
  check_hdf5(H5Pset_fapl_sec2(access), "HDF5");
  check_hdf5(H5Pset_meta_block_size(access, static_cast<hsize_t>(m_metadata_bytes)), "HDF5");  // all of it where room is sure
  check_hdf5(H5Pset_alignment(access, alignment, alignment), "HDF5");
#if H5_VERSION_GE(1, 10, 7) && !(H5_VERSION_GE(1, 12, 0) && !H5_VERSION_GE(1, 12, 1))
  check_hdf5(H5Pset_file_locking(access, true, true), "HDF5");
#endif
  set_versions(access);
  return {H5Fopen(m_part.c_str(), H5F_ACC_RDWR, access), H5Fclose, "cannot be written"};
}

void OutputFile::commit() {
  Descriptor file(m_part, O_RDWR, "cannot be written");
  require_ours(file);
  file.sync();
  file.close();
  if (::rename(m_part.c_str(), m_path.c_str()) != 0) fail("cannot be given its name", errno);
  m_committed = true;
  m_unfinished.reset();
  sync_folder(folder_of(m_path));
}

Handle create_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type) {
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  const Handle space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), H5Sclose, name);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, name);
  check_hdf5(H5Pset_layout(creation, H5D_CONTIGUOUS), name);
  check_hdf5(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY), name);
  check_hdf5(H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER), name);
  check_hdf5(H5Pset_obj_track_times(creation, false), name);  // the same content makes the same bytes
  return {H5Dcreate2(group, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose, name + " cannot be created"};
}

void write_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type, const void* numbers) {
  Handle dataset = create_dataset(group, name, shape, type);
  check_hdf5(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers), name + " cannot be written");
  dataset.close(name + " cannot be written");
}

}  // namespace bsbr::io
