#include "fuzz_runtime.hpp"

#include <mpi.h>

#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace {

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

void stop_runtime() {
  Kokkos::finalize();
  MPI_Finalize();
}

}  // namespace

/// MPI libraries keep memory until the end. HDF5 asks malloc for absurd sizes over damaged files, and copes with being
/// refused; `new` that is refused ends the process all the same: our code must not ask for such sizes.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024";
}
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1"; }

namespace bsbr::hostile {

void start_runtime() {
  setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);  // Open MPI: no helper process and no network
  setenv("OMPI_MCA_pml", "ob1", 0);
  setenv("OMPI_MCA_btl", "self", 0);
  setenv("OMP_NUM_THREADS", "1", 1);
  setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) give_up("MPI_Init_thread");
  Kokkos::initialize();
  std::atexit(stop_runtime);
}

TemporaryFile::TemporaryFile(const std::uint8_t* bytes, std::size_t size)
    : m_path((std::filesystem::temp_directory_path() / "bsbr-fuzz-XXXXXX").string()) {
  const int descriptor = ::mkstemp(m_path.data());
  if (descriptor < 0 || ::write(descriptor, bytes, size) != static_cast<ssize_t>(size) || ::close(descriptor) != 0)
    give_up("a temporary file");
}

TemporaryFile::~TemporaryFile() { ::unlink(m_path.c_str()); }

}  // namespace bsbr::hostile
