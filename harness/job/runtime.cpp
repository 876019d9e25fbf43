// Setting up MPI and Kokkos, and taking them down whatever has happened.
#include "harness/job/runtime.hpp"

#include <Kokkos_Core.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/kokkos.hpp"
#include "bsbr/parallel.hpp"
#include "harness/command_line/command_line.hpp"
#include "harness/job/ending_signals.hpp"
#include "harness/job/failure.hpp"
#include "harness/job/launcher.hpp"
#include "harness/job/mpi_limit.hpp"
#include "harness/job/processors.hpp"
#include "harness/job/same_start.hpp"
#include "kernels/device_product.hpp"
#include "parallel/device_buffers.hpp"
#include "parallel/wait.hpp"

namespace bsbr::harness {

using parallel::check;

namespace {

constexpr double longest_wait = 5;        // seconds for ranks that should be at the same place already
constexpr double time_to_be_heard = 0.5;  // seconds for ranks that fail, to hear of others that do
constexpr auto time_to_print = std::chrono::milliseconds(100);  // for the launcher to pass a line on
constexpr auto time_to_be_ended = std::chrono::seconds(3);      // for the rank that speaks to end the others
constexpr auto time_for_rank_0 = std::chrono::seconds(2);  // to print, before the others leave and the launcher ends it
constexpr auto time_between_looks = std::chrono::milliseconds(1);
constexpr int most_turns = 10;  // ranks beyond speak together

std::string program_name;  // for end_at_once()

/// Ranks of this node that may run on the same processors as this one, itself included.
int ranks_that_share(MPI_Comm comm) {
  const ProcessorMask mine = allowed_processors();
  MPI_Comm node = parallel::split_by_node(comm);
  const std::vector<ProcessorMask> all = parallel::all_gather(mine, node);
  check(MPI_Comm_free(&node), "MPI_Comm_free");
  return static_cast<int>(std::count(all.begin(), all.end(), mine));
}

/// An environment variable that is not there during the lifetime of this object.
class HiddenVariable {
 public:
  explicit HiddenVariable(const char* name) : m_name(name) {
    if (const char* value = std::getenv(name)) m_value = value;
    unsetenv(name);
  }
  ~HiddenVariable() {
    if (m_value) setenv(m_name, m_value->c_str(), 1);
  }
  HiddenVariable(const HiddenVariable&) = delete;
  HiddenVariable& operator=(const HiddenVariable&) = delete;

 private:
  const char* m_name;
  std::optional<std::string> m_value;
};

void set_up_mpi() {
  std::list<HiddenVariable> hidden;
  if (find_launcher().alone) {
    // A process by itself needs no network and no helper process: Open MPI takes 0.3 s to find that out, and 15 ms if
    // it is told.
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    // By these it takes whatever runs in a step of Slurm or a job of Flux for a rank, and ends where there is no PMI to
    // ask for the others.
    for (const char* variable : {"SLURM_STEPID", "SLURM_NODELIST", "FLUX_JOB_ID"}) hidden.emplace_back(variable);
    setenv("OMPI_MCA_pml", "ob1", 0);
    setenv("OMPI_MCA_btl", "self", 0);
  }
  int initialised = 0, provided = 0;
  MPI_Initialized(&initialised);
  if (initialised == 0 && MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
    throw CommunicationError("MPI_Init_thread fails, and MPI does not say why");
  }
  for (const MPI_Comm comm : {MPI_COMM_WORLD, MPI_COMM_SELF})
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);  // become exceptions
}

/// What is one rank's failure, of several, names it, unless it names others.
Failure of_rank(const Launcher& launcher, Failure failure) {
  if (launcher.ranks > 1 && !failure.message.starts_with("rank ") && !failure.message.starts_with("ranks "))
    failure.message = "rank " + std::to_string(launcher.rank) + ": " + failure.message;
  return failure;
}

/// Where nobody can catch an exception: Kokkos allocates scratch memory within parallel regions.
[[noreturn]] void end_at_once() {
  static std::atomic_flag begun;
  while (begun.test_and_set()) ::pause();  // another thread of the same region
  remove_unfinished_file();
  const std::exception_ptr exception = std::current_exception();
  const Failure failure =
      exception ? describe(exception) : Failure{bug, "internal error: terminated; please report it", "", false};
  const Launcher launcher = find_launcher();
  std::this_thread::sleep_for(
      time_to_print * std::min(launcher.rank, most_turns));  // for a lower rank to speak first, and to end this one
  print(program_name, of_rank(launcher, failure));
  std::_Exit(failure.code);
}

}  // namespace

/// Sets MPI and Kokkos up and down.
class Session {
 public:
  /// timeout: seconds to wait for other ranks; 0: for ever.
  Session(const std::string& name, double timeout) : m_name(name), m_timeout(timeout) {
    const MpiLimit limit(name, "MPI has not started on all ranks", timeout);
    set_up_mpi();
    set_timeout(MPI_COMM_WORLD, timeout);
    check(MPI_Comm_dup(MPI_COMM_WORLD, &m_runtime.m_comm), "MPI_Comm_dup");
    check(MPI_Comm_dup(MPI_COMM_WORLD, &m_runtime.m_meeting), "MPI_Comm_dup");
    m_runtime.m_rank = parallel::rank_in(m_runtime.m_comm);
    m_runtime.m_ranks = parallel::ranks_of(m_runtime.m_comm);
    m_runtime.m_patience = timeout > 0 ? std::min(longest_wait, timeout / 4) : longest_wait;
  }

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const Runtime& runtime() const { return m_runtime; }

  /// Throws CommunicationError if a launcher of another MPI has started several copies of this program, each alone.
  void require_same_mpi() const {
    const Launcher launcher = find_launcher();
    if (m_runtime.m_ranks > 1 || launcher.ranks == 1) return;
    if (launcher.rank > 0) {  // rank 0 prints for all, and would be ended if others left before it has
      std::this_thread::sleep_for(time_for_rank_0);
      std::_Exit(no_communication);
    }
    throw CommunicationError(
        "the launcher has started " + std::to_string(launcher.ranks) + " ranks, but MPI sees 1 in each",
        "start it with the launcher of the MPI that it was built with");
  }

  void start_kokkos() {
    const int sharing = ranks_that_share(m_runtime.m_comm);
    m_runtime.m_threads_chosen =
        std::getenv("OMP_NUM_THREADS") != nullptr || std::getenv("KOKKOS_NUM_THREADS") != nullptr;
    agree_on_usage(m_runtime.m_comm, [&] { m_runtime.m_threads_note = initialize_kokkos(m_name, sharing); });
    agree_on_usage(m_runtime.m_comm, [] {
      parallel::mpi_takes_device_buffers();
      kernels::tf32_products();
    });
  }

  /// Prints a failure once. Returns when all ranks are here, or never.
  void fail(const Failure& failure) {
    const bool first = m_runtime.is_first(), prints_for_all = first && failure.on_all_ranks;
    if (prints_for_all || m_runtime.m_ranks == 1) print(m_name, failure);
    if (m_runtime.m_ranks == 1 || (failure.on_all_ranks && m_runtime.meet())) return;
    const bool speaks = !prints_for_all && is_lowest_that_fails();
    if (speaks) print(m_name, of_rank({m_runtime.m_rank, m_runtime.m_ranks}, failure));
    std::this_thread::sleep_for(speaks || prints_for_all ? time_to_print : time_to_be_ended);
    MPI_Abort(MPI_COMM_WORLD, failure.code);
    std::_Exit(failure.code);
  }

  /// After success or fail(). All Views are gone by now.
  void end() {
    if (Kokkos::is_initialized()) Kokkos::finalize();
    const MpiLimit limit(m_name, "MPI has not ended on all ranks", m_timeout);
    MPI_Comm_free(&m_runtime.m_meeting);
    MPI_Comm_free(&m_runtime.m_comm);
    MPI_Finalize();
  }

 private:
  /// Several ranks may fail by themselves at the same time, each with its own error or all over the same thing.
  bool is_lowest_that_fails() const {
    std::vector<int> missing;
    try {
      missing = parallel::find_missing(m_runtime.m_meeting, time_to_be_heard);
    } catch (const CommunicationError&) {  // MPI does not work here at all: each speaks for itself
      return true;
    }
    for (int rank = 0; rank < m_runtime.m_rank; ++rank) {
      if (std::find(missing.begin(), missing.end(), rank) == missing.end()) return false;
    }
    return true;
  }

  std::string m_name;
  double m_timeout;
  Runtime m_runtime;
};

namespace {

/// Every rank answers, rank 0 aloud.
int give(const Answer& answer) {
  if (find_launcher().rank > 0) return done;
  return std::fputs(answer.text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0 ? done : no_output;
}

/// Ends a process that no other rank waits for, after its failure has been told. HDF5, which MPI_Finalize closes, may
/// crash there if its memory ran out in the middle of a call.
[[noreturn]] void end_without_hdf5(int code) {
  remove_unfinished_file();
  std::fflush(nullptr);
  std::_Exit(code);
}

int run_session(const Program& program, const std::exception_ptr& refusal, double timeout) {
  const bool alone = find_launcher().alone;  // later MPI has set variables of its own
  Session session(program.name, timeout);
  std::optional<Failure> failure;
  ExitCode code = done;
  try {
    session.require_same_mpi();
    require_same_start(session.runtime().comm(), program.name, program.arguments);
    agree_on_usage(session.runtime().comm(), [&] {
      if (refusal) std::rethrow_exception(refusal);
    });
    session.start_kokkos();
    code = program.work(session.runtime());
  } catch (...) {
    failure = describe(std::current_exception());
  }
  if (failure) {
    session.fail(*failure);
    if (alone) end_without_hdf5(failure->code);
  }
  session.end();
  return failure ? failure->code : code;
}

}  // namespace

void Runtime::print(const std::string& text) const {
  parallel::agree(m_comm, [&] {
    if (!is_first()) return;
    if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) throw OutputError("stdout cannot be written");
  });
}

bool Runtime::meet() const {
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(m_meeting, &request) != MPI_SUCCESS) return false;
  const auto start = std::chrono::steady_clock::now();
  int met = 0;
  while (MPI_Test(&request, &met, MPI_STATUS_IGNORE) == MPI_SUCCESS) {
    if (met != 0) return true;
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > m_patience) return false;
    std::this_thread::sleep_for(time_between_looks);
  }
  return false;
}

int run_program(const Program& program) {
  program_name = program.name;
  std::set_terminate(end_at_once);
  remove_unfinished_file_on_signals();
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond its limit is an error of the write, to be reported
  std::exception_ptr refusal;
  double timeout = 0;
  try {
    timeout = program.parse();
  } catch (const Answer& answer) {
    return give(answer);
  } catch (...) {
    refusal = std::current_exception();
  }
  try {
    if (refusal && find_launcher().ranks == 1) std::rethrow_exception(refusal);
    return run_session(program, refusal, timeout);
  } catch (...) {  // before MPI, or MPI itself cannot be set up
    const Failure failure = describe(std::current_exception());
    print(program.name, of_rank(find_launcher(), failure));
    return failure.code;
  }
}

void add_timeout_option(CommandLine& line, double& seconds) {
  constexpr double least = 0.1, most = 1e9;
  line.add("--timeout", "SECONDS", "abort if a rank is unresponsive for SECONDS (default: wait forever)",
           [&seconds](const std::string& name, const std::string& text) { seconds = number(name, text, least, most); });
}

}  // namespace bsbr::harness
