// How far a program is, on stderr.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "bsbr/profile.hpp"
#include "progress/pace.hpp"
#include "progress/terminal.hpp"

namespace bsbr::harness {
class CommandLine;
}

namespace bsbr::apps {

enum class ProgressMode { automatic, on, off };

struct ProgressOptions {
  ProgressMode mode = ProgressMode::automatic;
  double interval = 60;  ///< seconds between lines in a log
  bool in_logs = false;  ///< automatic: where no terminal shows it, a line every `interval` seconds
};

/// --progress and --progress-interval.
void add_progress_options(harness::CommandLine& line, ProgressOptions& options);

/// Shows what rank 0 is doing. On a terminal: one line, updated in place and erased at the end. Elsewhere: a line for
/// each step, and one every `interval` seconds while a step takes longer. A thread of its own writes, so that the line
/// goes on while a kernel runs.
class Progress {
 public:
  /// `first`: this is rank 0, the only one that writes.
  Progress(const ProgressOptions& options, bool first, std::string program);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// A new step begins.
  void step(const std::string& what);

  /// How far the step is has changed: shown when it is time to.
  void update(const std::string& what);

  /// A line "program: warning: text" on stderr, whether progress is shown or not; empty: nothing.
  void warn(const std::string& text);

  /// The forward `number` of `count`, from 0, begins; `what` stands before it. Returns what Profile::progress is to be:
  /// empty if nothing is shown.
  std::function<void(const ForwardProgress&)> forward(const std::string& what, std::int64_t number, std::int64_t count);

 private:
  double now() const;
  void start();
  void run();
  void show();

  bool m_first, m_shows;
  bool m_announces;  // each step has a line of its own
  double m_interval;
  Terminal m_terminal;
  std::string m_program;
  std::chrono::steady_clock::time_point m_start;

  std::mutex m_mutex;  // of what follows
  std::string m_what;
  bool m_in_forward = false, m_ended = false;
  Pace m_pace;
  double m_shown = 0;  // when
  std::condition_variable m_end;
  std::thread m_writer;
};

}  // namespace bsbr::apps
