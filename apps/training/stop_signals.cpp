#include "training/stop_signals.hpp"

#include <array>
#include <csignal>

namespace bsbr::apps {
namespace {

struct StopSignal {
  int number;
  const char* name;
};
constexpr std::array signals{StopSignal{SIGTERM, "SIGTERM"}, StopSignal{SIGUSR1, "SIGUSR1"}};

std::array<struct sigaction, signals.size()> before;
volatile std::sig_atomic_t first_signal = 0;  // 0: none has come
volatile std::sig_atomic_t has_sigterm = 0;

extern "C" void note_signal(int signal) {
  if (first_signal == 0) first_signal = signal;
  if (signal != SIGTERM) return;
  if (has_sigterm != 0) {
    ::sigaction(SIGTERM, &before[0], nullptr);
    std::raise(SIGTERM);
  }
  has_sigterm = 1;
}

}  // namespace

StopSignals::StopSignals() {
  first_signal = 0;
  has_sigterm = 0;
  for (std::size_t i = 0; i < signals.size(); ++i) {
    struct sigaction ours {};
    ours.sa_handler = note_signal;
    ours.sa_flags = SA_RESTART;
    ::sigaction(signals[i].number, &ours, &before[i]);
  }
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i].number, &before[i], nullptr);
}

const char* StopSignals::received() {
  for (const StopSignal& signal : signals) {
    if (first_signal == signal.number) return signal.name;
  }
  return nullptr;
}

}  // namespace bsbr::apps
