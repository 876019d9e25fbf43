// The life of a program: command line, MPI, Kokkos, its work, and an orderly end in every case.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "harness/job/failure.hpp"
#include "harness/job/launcher.hpp"

namespace bsbr::harness {

class CommandLine;

/// What parsing throws to answer --help and --version: a text for stdout, then success, with neither MPI nor Kokkos set
/// up.
struct Answer {
  std::string text;
};

/// MPI as a program sees it: its own communicator of all ranks.
class Runtime {
 public:
  MPI_Comm comm() const { return m_comm; }
  int rank() const { return m_rank; }
  int ranks() const { return m_ranks; }
  bool is_first() const { return m_rank == 0; }

  /// What has started this job, and may have bound its ranks to processors.
  LauncherKind launcher() const { return m_launcher; }

  /// Whether an environment variable sets the number of threads.
  bool threads_chosen() const { return m_threads_chosen; }

  /// What initialize_kokkos has to tell the user; empty if nothing.
  const std::string& threads_note() const { return m_threads_note; }

  /// Writes to stdout from rank 0. Collective; if that fails, OutputError on all ranks.
  void print(const std::string& text) const;

  /// After a failure: waits for all ranks to call this; false if some do not for five seconds (or a quarter of
  /// --timeout), since they are elsewhere. Uses a communicator of its own, so that it meets no other operation of such
  /// a rank.
  bool meet() const;

 private:
  friend class Session;
  MPI_Comm m_comm = MPI_COMM_NULL, m_meeting = MPI_COMM_NULL;
  int m_rank = 0, m_ranks = 1;
  LauncherKind m_launcher = find_launcher().kind;  // before MPI adds variables of its own
  bool m_threads_chosen = false;
  std::string m_threads_note;
  double m_patience = 0;  // seconds that meet() waits
};

struct Program {
  std::string name;
  std::vector<std::string> arguments;  ///< without the name; the same on all ranks

  /// Reads the command line before anything is set up. Throws Answer or UsageError. Returns how many seconds to wait
  /// for other ranks that do not answer; 0: for ever.
  std::function<double()> parse;

  /// Runs with MPI and Kokkos. Returns the exit code, the same on all ranks.
  std::function<ExitCode(const Runtime&)> work;
};

/// Runs a program and returns its exit code.
///
/// Whatever its work throws is printed once, as failure.hpp says, and the other ranks end only after that, because a
/// launcher ends them all when the first leaves. What may be one rank's failure alone ends with MPI_Abort, never with
/// waiting for the others.
int run_program(const Program& program);

/// The same of a program that is the two functions. Options may have `timeout`; work returns nothing, or an ExitCode.
template <class Options, class Result>
int run_program(const std::string& name, int argc, const char* const* argv, Options (*parse)(int, const char* const*),
                Result (*work)(const Runtime&, const Options&)) {
  std::optional<Options> options;
  const auto parse_all = [&] {
    options = parse(argc, argv);
    if constexpr (requires { options->timeout; }) return options->timeout;
    return 0.0;
  };
  return run_program({.name = name,
                      .arguments = {argv + std::min(argc, 1), argv + argc},
                      .parse = parse_all,
                      .work = [&](const Runtime& runtime) {
                        if constexpr (!std::is_void_v<Result>) return work(runtime, *options);
                        work(runtime, *options);
                        return done;
                      }});
}

/// --timeout, whose seconds Program::parse returns.
void add_timeout_option(CommandLine& line, double& seconds);

}  // namespace bsbr::harness
