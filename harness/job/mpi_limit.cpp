// The system's timer, and a handler that may do no more than write and leave.
#include "harness/job/mpi_limit.hpp"

#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <ctime>

#include "harness/format.hpp"
#include "harness/job/failure.hpp"
#include "harness/job/launcher.hpp"

namespace bsbr::harness {
namespace {

constexpr double delay_of_a_stopped_rank =
    0.5;                                  // seconds beyond its time by which a rank knows that it was stopped itself
constexpr double time_to_be_ended = 2.5;  // seconds for a launcher to end the others, once a rank has spoken

std::string last_words;  // made beforehand: the handler must not allocate

double speaking_time = 0;  // seconds of the monotonic clock

double monotonic_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

extern "C" void give_up(int) {
  if (monotonic_seconds() > speaking_time + delay_of_a_stopped_rank) ::_exit(no_communication);  // others have spoken
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, last_words.data(), last_words.size());
  ::_exit(no_communication);
}

void set_timer(double seconds) {
  const double whole = std::floor(seconds);
  const itimerval timer{{0, 0}, {static_cast<time_t>(whole), static_cast<suseconds_t>((seconds - whole) * 1e6)}};
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

}  // namespace

MpiLimit::MpiLimit(const std::string& program, const std::string& doing, double seconds) {
  if (seconds <= 0) return;
  // Rank 0 speaks; if it is the one that is stuck, rank 1 does, when launchers would have ended it. The others would
  // only be in the way.
  const int rank = find_launcher().rank;
  last_words = rank > 1 ? ""
                        : program + ": error: " + doing + " after " + show_number("%g", seconds) +
                              " s\nhint: a rank was stopped, or cannot be reached\n";
  const double patience = seconds + time_to_be_ended * std::min(rank, 2);
  speaking_time = monotonic_seconds() + patience;
  struct sigaction ours {};
  ours.sa_handler = give_up;
  ::sigaction(SIGALRM, &ours, &m_before);
  set_timer(patience);
  m_set = true;
}

MpiLimit::~MpiLimit() {
  if (!m_set) return;
  set_timer(0);
  ::sigaction(SIGALRM, &m_before, nullptr);
}

}  // namespace bsbr::harness
