#include "harness/job/stop_signals.hpp"

#include <algorithm>
#include <array>

namespace bsbr::harness {
namespace {

struct StopSignal {
  int number;
  const char* name;
};
constexpr std::array known{StopSignal{SIGTERM, "SIGTERM"}, StopSignal{SIGINT, "SIGINT"},
                           StopSignal{SIGUSR1, "SIGUSR1"}};

std::array<struct sigaction, known.size()> before;
std::array<bool, known.size()> noted;         // those that are only noted
volatile std::sig_atomic_t first_signal = 0;  // 0: none has come
volatile std::sig_atomic_t has_ending = 0;    // SIGTERM or SIGINT has come

extern "C" void note_signal(int signal) {
  if (first_signal == 0) first_signal = signal;
  if (signal == SIGUSR1) return;
  if (has_ending != 0) {
    for (std::size_t i = 0; i < known.size(); ++i) {
      if (known[i].number == signal) ::sigaction(signal, &before[i], nullptr);
    }
    std::raise(signal);
  }
  has_ending = 1;
}

}  // namespace

StopSignals::StopSignals(std::initializer_list<int> signals) {
  first_signal = 0;
  has_ending = 0;
  for (std::size_t i = 0; i < known.size(); ++i) {
    noted[i] = std::find(signals.begin(), signals.end(), known[i].number) != signals.end();
    if (!noted[i]) continue;
    ::sigaction(known[i].number, nullptr, &before[i]);
    noted[i] = before[i].sa_handler != SIG_IGN;  // as of SIGINT for what a script starts with `&`
    if (!noted[i]) continue;
    struct sigaction ours {};
    ours.sa_handler = note_signal;
    ours.sa_flags = SA_RESTART;
    ::sigaction(known[i].number, &ours, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (noted[i]) ::sigaction(known[i].number, &before[i], nullptr);
  }
}

const char* StopSignals::received() {
  for (const StopSignal& signal : known) {
    if (first_signal == signal.number) return signal.name;
  }
  return nullptr;
}

}  // namespace bsbr::harness
