#include "io/output_file.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <cerrno>

#include "io/output_driver.hpp"
#include "io/paths.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

constexpr std::int64_t usual_metadata = 1 << 15;    // superblock, root group, attributes
constexpr std::int64_t dataset_metadata = 1 << 10;  // header of a dataset, and its entry in a group
constexpr std::int64_t alignment = 1 << 12;         // of everything that is at least as large

[[noreturn]] void no_space(int error, std::int64_t bytes, const std::string& folder) {
  std::string text = "needs " + show_bytes(bytes) + ": ";
  if (error == EFBIG)
    throw ContentError(text + "larger than a file may be here", "ulimit -f shows the limit of this process");
  if (error == EDQUOT) throw ContentError(text + "no space left within the disk quota");
  struct statvfs state {};
  text += "no space left on the device";
  if (::statvfs(folder.c_str(), &state) == 0) {
    text += ", which has " +
            show_bytes(static_cast<std::int64_t>(state.f_bavail) * static_cast<std::int64_t>(state.f_frsize));
  }
  throw ContentError(text);
}

/// Asked for rather than tried: trying would raise SIGXFSZ.
bool exceeds_limit(std::int64_t bytes) {
  struct rlimit limit {};
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
         static_cast<rlim_t>(bytes) > limit.rlim_cur;
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

/// Where blocks cannot be reserved, a disk without room for the metadata is noticed before anything is computed into
/// the file.
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

/// The bytes of an HDF5 file with nothing in it. They are put into a file that has its blocks already: H5Fcreate would
/// give them back.
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

}  // namespace

OutputFile::OutputFile(const std::string& path, std::int64_t datasets, std::int64_t data_bytes)
    : m_metadata_bytes(usual_metadata + datasets * dataset_metadata), m_file(path) {
  reserve(m_file.descriptor(), m_metadata_bytes + data_bytes + datasets * alignment, m_metadata_bytes, part());
  const std::string image = empty_image();
  m_file.descriptor().write(0, image.data(), static_cast<std::int64_t>(image.size()));
}

Handle OutputFile::open() {
  m_file.require_ours();
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "HDF5");
  use_output_driver(access, {&m_file.descriptor(), &m_failure});
  check_hdf5(H5Pset_meta_block_size(access, static_cast<hsize_t>(m_metadata_bytes)),
             "HDF5");  // all of it where room is sure
  check_hdf5(H5Pset_alignment(access, alignment, alignment), "HDF5");
  set_versions(access);
  return {H5Fopen(part().c_str(), H5F_ACC_RDWR, access), H5Fclose, "cannot be written"};
}

void OutputFile::require_written() const {
  if (m_failure) throw ContentError(*m_failure);
}

void OutputFile::close(Handle& file) const {
  file.close("cannot be written");
  require_written();
}

Handle create_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type) {
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  const Handle space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), H5Sclose, name);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, name);
  check_hdf5(H5Pset_layout(creation, H5D_CONTIGUOUS), name);
  check_hdf5(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY), name);
  check_hdf5(H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER), name);
  check_hdf5(H5Pset_obj_track_times(creation, false), name);  // the same content makes the same bytes
  return {H5Dcreate2(group, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose,
          name + " cannot be created"};
}

void write_dataset(hid_t group, const std::string& name, const std::vector<std::int64_t>& shape, hid_t type,
                   const void* data) {
  Handle dataset = create_dataset(group, name, shape, type);
  check_hdf5(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), name + " cannot be written");
  dataset.close(name + " cannot be written");
}

}  // namespace bsbr::io
