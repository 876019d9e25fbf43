// MPI and Kokkos: started at the first use, ended with the interpreter; communicators of mpi4py.
#include <nanobind/stl/string.h>
#include <pthread.h>
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>

#include "bsbr/error.hpp"
#include "bsbr/kokkos.hpp"
#include "bsbr/parallel.hpp"
#include "module.hpp"

namespace bsbr::python {
namespace {

std::thread::id owner;  // the thread that started Kokkos: its OpenMP backend works in that one only; none before
bool mpi_is_ours = false, kokkos_is_ours = false, forked = false;

bool mpi_is_running() {
  int initialised = 0, finalised = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  return initialised != 0 && finalised == 0;
}

/// Called in the child of every fork(). Threads do not survive a fork, and a connection to other processes has one end
/// only.
void note_fork() { forked = forked || mpi_is_running() || Kokkos::is_initialized(); }

std::set<std::string> environment_names() {
  std::set<std::string> names;
  for (char** entry = environ; *entry != nullptr; ++entry)
    names.insert(std::string(*entry).substr(0, std::string(*entry).find('=')));
  return names;
}

/// MPI_Init of Open MPI leaves variables in the environment that describe this process. Inherited by a child, they make
/// its `mpirun` fail without a word, so what was not there before is removed again. MPI itself has read them by then.
class RestoreEnvironment {
 public:
  ~RestoreEnvironment() {
    for (const std::string& name : environment_names()) {
      if (!m_before.contains(name)) unsetenv(name.c_str());
    }
  }

 private:
  const std::set<std::string> m_before = environment_names();
};

void start_mpi() {
  int initialised = 0, finalised = 0, provided = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  if (finalised != 0) throw CommunicationError("MPI has been finalised");
  if (initialised != 0) return;
  const RestoreEnvironment afterwards;
  // MPI_THREAD_MULTIPLE, as mpi4py has it: Python may free a communicator in any thread.
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS) {
    throw CommunicationError("MPI_Init_thread fails, and MPI does not say why");
  }
  mpi_is_ours = true;
  for (const MPI_Comm comm : {MPI_COMM_WORLD, MPI_COMM_SELF})
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);  // become exceptions
}

void start_kokkos() {
  if (Kokkos::is_initialized()) return;
  initialize_kokkos("bsbr_hpc");
  kokkos_is_ours = true;
}

/// Called when the interpreter has ended and all objects with Views in them are gone or left alone for good; before
/// mpi4py's function of that kind, which was registered earlier.
void end() {
  if (forked) return;
  if (kokkos_is_ours && Kokkos::is_initialized()) Kokkos::finalize();
  int finalised = 0;
  MPI_Finalized(&finalised);
  if (mpi_is_ours && finalised == 0) MPI_Finalize();
}

std::string library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING + 1> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  return text.data();
}

/// A handle of one MPI is a random number for another.
void require_same_mpi(const nb::module_& mpi) {
  const std::string theirs =
      nb::cast<std::string>(mpi.attr("Get_library_version")()).c_str();  // up to the 0 that may end the text
  const bool same_size = nb::cast<std::size_t>(mpi.attr("_sizeof")(mpi.attr("Comm"))) == sizeof(MPI_Comm);
  const std::string ours = library_version();
  if (same_size && ours == theirs) return;
  throw CommunicationError(
      "mpi4py uses " + theirs.substr(0, theirs.find(',')) + ", bsbr_hpc " + ours.substr(0, ours.find(',')),
      "build mpi4py with the MPI of bsbr_hpc: pip install --no-binary mpi4py mpi4py");
}

bool is_mpi4py_communicator(nb::handle comm) {
  const nb::dict modules = nb::module_::import_("sys").attr("modules");
  return modules.contains("mpi4py.MPI") && nb::isinstance(comm, modules["mpi4py.MPI"].attr("Comm"));
}

/// The text of the lowest rank that has one, on all ranks; "" if none has. Collective.
std::string agree(const nb::object& comm, const std::string& mine) {
  const MPI_Comm handle = communicator(comm);
  const int rank = parallel::rank_in(handle), ranks = parallel::ranks_of(handle);
  if (ranks == 1) return mine;
  const nb::gil_scoped_release others_may_run;
  const int speaker = parallel::all_reduce(mine.empty() ? ranks : rank, MPI_MIN, handle);
  if (speaker == ranks) return {};
  std::string text = mine;
  parallel::broadcast(text, handle, speaker);
  return text;
}

}  // namespace

bool is_forked() { return forked; }

void start() {
  if (forked) {
    throw Error("this process was forked from one that had started MPI or Kokkos, which do not survive a fork",
                "start child processes with multiprocessing's \"spawn\", or before bsbr_hpc is used");
  }
  if (owner == std::this_thread::get_id()) return;
  if (owner != std::thread::id())
    throw Error("this thread is not the one that used bsbr_hpc first", "use bsbr_hpc in one thread");
  start_mpi();
  [[maybe_unused]] static const bool registered = [] {  // once: start_kokkos() may throw, and be called again
    if (Py_AtExit(end) != 0) throw Error("Python has no place left for a function to call at its end");
    return true;
  }();
  start_kokkos();
  owner = std::this_thread::get_id();
}

MPI_Comm communicator(nb::handle comm) {
  if (!comm.is_none() && !is_mpi4py_communicator(comm)) {
    const auto type = nb::cast<std::string>(comm.type().attr("__name__"));
    throw nb::type_error(("comm is of type " + type + "; an mpi4py communicator or None is taken").c_str());
  }
  start();
  if (comm.is_none()) return MPI_COMM_SELF;
  const nb::module_ mpi = nb::module_::import_("mpi4py.MPI");
  require_same_mpi(mpi);
  const auto handle = *reinterpret_cast<const MPI_Comm*>(nb::cast<std::uintptr_t>(mpi.attr("_addressof")(comm)));
  if (handle == MPI_COMM_NULL) throw CommunicationError("comm is MPI.COMM_NULL");
  int connects_two_groups = 0;
  MPI_Comm_test_inter(handle, &connects_two_groups);
  if (connects_two_groups != 0)
    throw CommunicationError("comm is an intercommunicator, one of a single group is taken");
  return handle;
}

void add_runtime(nb::module_& module) {
  pthread_atfork(nullptr, nullptr, note_fork);
  module.def("agree", &agree, nb::arg("comm").none(), nb::arg("text"),
             "The text of the lowest rank that has one, on all ranks; \"\" if none has. Collective.");
}

}  // namespace bsbr::python
