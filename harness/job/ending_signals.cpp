// A signal handler, which may do no more than remove a file and let the signal have its way.
#include "harness/job/ending_signals.hpp"

#include <array>
#include <csignal>

#include "bsbr/io.hpp"

namespace bsbr::harness {
namespace {

// Those that end a process by default, but for the ones that tell of a crash: MPI has handlers of its own for these.
constexpr std::array signals{SIGTERM, SIGINT,  SIGHUP,  SIGQUIT,   SIGUSR1, SIGUSR2,
                             SIGPIPE, SIGALRM, SIGXCPU, SIGVTALRM, SIGPROF};
std::array<struct sigaction, signals.size()> before;

extern "C" void remove_and_go_on(int signal) {
  remove_unfinished_file();
  for (std::size_t i = 0; i < signals.size(); ++i) {
    if (signals[i] == signal) ::sigaction(signal, &before[i], nullptr);
  }
  std::raise(signal);
}

}  // namespace

void remove_unfinished_file_on_signals() {
  for (std::size_t i = 0; i < signals.size(); ++i) {
    ::sigaction(signals[i], nullptr, &before[i]);
    if (before[i].sa_handler == SIG_IGN) continue;  // nohup and the like
    struct sigaction ours {};
    ours.sa_handler = remove_and_go_on;
    ::sigaction(signals[i], &ours, nullptr);
  }
}

}  // namespace bsbr::harness
