// How far a program is, on stderr.
#pragma once

#include <chrono>
#include <string>

namespace bsbr::apps {

enum class ProgressMode { automatic, on, off };

/// Throws UsageError for a text that is none of auto, on, off.
ProgressMode progress_mode(const std::string& option, const std::string& text);

/// What is being done now: on a terminal one line that changes and is gone at the end, else a line for each step.
class Progress {
 public:
  /// `first`: this is rank 0, the only one to speak.
  Progress(ProgressMode mode, bool first, std::string program);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(const std::string& what) const;

 private:
  bool m_speaks, m_terminal;
  std::string m_program;
  std::chrono::steady_clock::time_point m_start;
};

}  // namespace bsbr::apps
