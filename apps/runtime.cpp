// Setting up MPI and Kokkos, and taking them down whatever has happened.
#include "runtime.hpp"

#include <Kokkos_Core.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "blas_kernel.hpp"
#include "failure.hpp"
#include "launcher.hpp"
#include "parallel/agree.hpp"

namespace bsbr::apps {

using parallel::check;

namespace {

constexpr auto longest_wait = std::chrono::seconds(10);                // for ranks that should be at the same place already
constexpr auto first_rank_advantage = std::chrono::milliseconds(500);  // so that rank 0 prints first what all ranks would print

/// Processors that this process may run on: none where the system does not tell.
cpu_set_t allowed_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_ZERO(&set);
  return set;
}

/// Ranks of this node that may run on the same processors as this one, itself included.
int ranks_that_share(MPI_Comm comm, const cpu_set_t& mine) {
  MPI_Comm node = MPI_COMM_NULL;
  check(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
  int ranks = 1;
  check(MPI_Comm_size(node, &ranks), "MPI_Comm_size");
  std::vector<cpu_set_t> all(static_cast<std::size_t>(ranks));
  check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, node), "MPI_Allgather");
  check(MPI_Comm_free(&node), "MPI_Comm_free");
  return static_cast<int>(std::count_if(all.begin(), all.end(), [&](const cpu_set_t& other) { return CPU_EQUAL(&mine, &other); }));
}

/// Ranks that the launcher has not bound would each take all processors that the job has, and wait for each other most of the time: they
/// share them, unless the user has said how many threads there should be.
void share_processors(int ranks, int processors) {
  if (ranks == 1 || processors == 0 || std::getenv("OMP_NUM_THREADS") != nullptr) return;
  setenv("KOKKOS_NUM_THREADS", std::to_string(std::max(1, processors / ranks)).c_str(), 0);
}

void set_up_mpi() {
  if (find_launcher().none) {
    // A process by itself needs no network and no helper process: Open MPI takes 0.3 s to find that out, and 15 ms if it is told.
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    setenv("OMPI_MCA_pml", "ob1", 0);
    setenv("OMPI_MCA_btl", "self", 0);
  }
  int initialised = 0, provided = 0;
  MPI_Initialized(&initialised);
  if (initialised == 0) MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);  // errors become exceptions
}

/// Kokkos takes some arguments for its own: it is shown none of ours.
void set_up_kokkos(const std::string& name) {
  setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);  // about OMP_PROC_BIND and the like: stderr is for errors
  std::string argument = name;
  char* arguments[] = {argument.data(), nullptr};
  int count = 1;
  Kokkos::initialize(count, arguments);
  keep_blas_to_one_thread();
}

}  // namespace

/// Sets MPI and Kokkos up and down.
class Session {
 public:
  explicit Session(const std::string& name) : m_name(name) {
    set_up_mpi();
    check(MPI_Comm_dup(MPI_COMM_WORLD, &m_runtime.m_comm), "MPI_Comm_dup");
    check(MPI_Comm_dup(MPI_COMM_WORLD, &m_runtime.m_meeting), "MPI_Comm_dup");
    check(MPI_Comm_rank(m_runtime.m_comm, &m_runtime.m_rank), "MPI_Comm_rank");
    check(MPI_Comm_size(m_runtime.m_comm, &m_runtime.m_ranks), "MPI_Comm_size");
  }

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const Runtime& runtime() const { return m_runtime; }

  /// Throws CommunicationError if a launcher of another MPI has started several copies of this program, each alone.
  void require_same_mpi() const {
    const Launcher launcher = find_launcher();
    if (m_runtime.m_ranks > 1 || launcher.ranks == 1) return;
    if (launcher.rank > 0) {  // rank 0 prints for all, and would be ended if others left before it has
      std::this_thread::sleep_for(4 * first_rank_advantage);
      std::_Exit(no_communication);
    }
    throw CommunicationError("the launcher has started " + std::to_string(launcher.ranks) + " ranks, but MPI sees 1 in each",
                             "start it with the launcher of the MPI that it was built with");
  }

  void start_kokkos() {
    const cpu_set_t processors = allowed_processors();
    const int neighbours = ranks_that_share(m_runtime.m_comm, processors);
    parallel::agree(m_runtime.m_comm, [&] {
      share_processors(neighbours, CPU_COUNT(&processors));
      set_up_kokkos(m_name);
    });
  }

  /// Prints a failure once. Returns when all ranks are here, or never.
  void fail(const Failure& failure) {
    const bool alone = m_runtime.m_ranks == 1;
    if (m_runtime.is_first()) print(m_name, failure);
    if (alone || (failure.on_all_ranks && m_runtime.meet())) return;
    if (!m_runtime.is_first()) {
      std::this_thread::sleep_for(first_rank_advantage);
      print(m_name, failure);
    }
    std::this_thread::sleep_for(first_rank_advantage / 5);  // for the launcher to pass the line on
    MPI_Abort(MPI_COMM_WORLD, failure.code);
    std::_Exit(failure.code);
  }

  /// After success or fail(). All Views are gone by now.
  void end() {
    if (Kokkos::is_initialized()) Kokkos::finalize();
    MPI_Comm_free(&m_runtime.m_meeting);
    MPI_Comm_free(&m_runtime.m_comm);
    MPI_Finalize();
  }

 private:
  std::string m_name;
  Runtime m_runtime;
};

namespace {

/// Every rank answers, rank 0 aloud.
int give(const Answer& answer) {
  if (find_launcher().rank > 0) return done;
  return std::fputs(answer.text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0 ? done : no_output;
}

/// A command line that one rank refuses is refused by all.
void agree_on_usage(MPI_Comm comm, const std::exception_ptr& refusal) {
  try {
    parallel::agree(comm, [&] {
      if (refusal) std::rethrow_exception(refusal);
    });
  } catch (const ConfigError& error) {
    throw UsageError(error.what(), error.hint());
  }
}

int run_session(const std::string& name, const std::exception_ptr& refusal, const std::function<void(const Runtime&)>& work) {
  Session session(name);
  std::optional<Failure> failure;
  try {
    session.require_same_mpi();
    agree_on_usage(session.runtime().comm(), refusal);
    session.start_kokkos();
    work(session.runtime());
  } catch (...) {
    failure = describe(std::current_exception());
  }
  if (failure) session.fail(*failure);
  session.end();
  return failure ? failure->code : done;
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
    if (std::chrono::steady_clock::now() - start > longest_wait) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

int run_program(const std::string& name, const std::function<void()>& parse, const std::function<void(const Runtime&)>& work) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond its limit is an error of the write, to be reported
  std::exception_ptr refusal;
  try {
    parse();
  } catch (const Answer& answer) {
    return give(answer);
  } catch (...) {
    refusal = std::current_exception();
  }
  try {
    if (refusal && find_launcher().ranks == 1) std::rethrow_exception(refusal);
    return run_session(name, refusal, work);
  } catch (...) {  // before MPI, or MPI itself cannot be set up
    const Failure failure = describe(std::current_exception());
    print(name, failure);
    return failure.code;
  }
}

std::string broadcast_from(int root, const std::string& text, MPI_Comm comm) {
  int size = static_cast<int>(text.size());
  check(MPI_Bcast(&size, 1, MPI_INT, root, comm), "MPI_Bcast");
  std::string received = text;
  received.resize(static_cast<std::size_t>(size));
  check(MPI_Bcast(received.data(), size, MPI_CHAR, root, comm), "MPI_Bcast");
  return received;
}

std::vector<std::string> gather_texts(const std::string& text, MPI_Comm comm) {
  int rank = 0, ranks = 0;
  check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  check(MPI_Comm_size(comm, &ranks), "MPI_Comm_size");
  const auto count = static_cast<std::size_t>(rank == 0 ? ranks : 0);
  const int size = static_cast<int>(text.size());
  std::vector<int> sizes(count), offsets(count);
  check(MPI_Gather(&size, 1, MPI_INT, sizes.data(), 1, MPI_INT, 0, comm), "MPI_Gather");
  std::exclusive_scan(sizes.begin(), sizes.end(), offsets.begin(), 0);
  std::string all(count == 0 ? 0 : static_cast<std::size_t>(offsets.back() + sizes.back()), ' ');
  check(MPI_Gatherv(text.data(), size, MPI_CHAR, all.data(), sizes.data(), offsets.data(), MPI_CHAR, 0, comm), "MPI_Gatherv");
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i)
    texts.push_back(all.substr(static_cast<std::size_t>(offsets[i]), static_cast<std::size_t>(sizes[i])));
  return texts;
}

}  // namespace bsbr::apps
