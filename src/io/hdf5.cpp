#include "io/hdf5.hpp"

#include <mpi.h>

#include <cstdlib>
#include <exception>

#include "bsbr/io.hpp"
#include "io/quiet_end.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

herr_t keep_first(unsigned n, const H5E_error2_t* error, void* text) {
  if (n == 0 && error->desc != nullptr) *static_cast<std::string*>(text) = error->desc;
  return 0;
}

void stop_printing() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

int stop_printing_with_mpi(MPI_Comm, int, void*, void*) {
  stop_printing();
  return MPI_SUCCESS;
}

}  // namespace

/// Each of MPI_Finalize and exit calls what was registered last first, so this comes before HDF5's own end.
void keep_quiet_at_the_end() {
  [[maybe_unused]] static const bool once = [] {
    H5open();
    std::atexit(stop_printing);
    int initialised = 0, finalised = 0, key = MPI_KEYVAL_INVALID;
    MPI_Initialized(&initialised);
    MPI_Finalized(&finalised);
    if (initialised == 0 || finalised != 0) return true;
    MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, stop_printing_with_mpi, &key, nullptr);
    MPI_Comm_set_attr(MPI_COMM_SELF, key, nullptr);
    MPI_Comm_free_keyval(&key);  // it lives on as long as the attribute
    return true;
  }();
}

std::string newer_format_hint() {
  return "unless the file is damaged, its format is newer than HDF5 " + hdf5_version() +
         " reads: write it with libver=\"v110\" (h5py), or copy it with --high=2 by the h5repack of the HDF5 that "
         "wrote it";
}

ContentError hdf5_error(const std::string& doing) {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  // "bad version number for layout message", "unknown datatype version", …: each kind of metadata has a version of its
  // own.
  const bool may_be_newer = reason.find("version") != std::string::npos;
  return ContentError(doing + ": " + (reason.empty() ? "HDF5 does not say why" : printable(reason, 200)),
                      may_be_newer ? newer_format_hint() : "");
}

/// HDF5's settings, changed as long as this lives.
class LibraryScope::Quiet {
 public:
  Quiet() {
    // Fails where the caller uses the error interface of HDF5 1.6, which is then left as it is.
    m_silenced =
        H5Eget_auto2(H5E_DEFAULT, &m_print, &m_print_data) >= 0 && H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
    if (H5PLget_loading_state(&m_plugins) >= 0) H5PLset_loading_state(0);
  }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  ~Quiet() {
    H5PLset_loading_state(m_plugins);
    if (m_silenced) H5Eset_auto2(H5E_DEFAULT, m_print, m_print_data);
  }

 private:
  H5E_auto2_t m_print = nullptr;
  void* m_print_data = nullptr;
  bool m_silenced = false;
  unsigned m_plugins = 0;
};

LibraryScope::LibraryScope() : m_exceptions(std::uncaught_exceptions()) {
  thread_local std::weak_ptr<const Quiet> shared;
  m_quiet = shared.lock();
  if (!m_quiet) shared = m_quiet = std::make_shared<const Quiet>();
}

LibraryScope::~LibraryScope() {
  if (std::uncaught_exceptions() > m_exceptions) keep_quiet_at_the_end();
}

std::string named(const std::string& path, const char* message) { return printable(path) + ": " + message; }

}  // namespace bsbr::io

namespace bsbr {

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

}  // namespace bsbr
