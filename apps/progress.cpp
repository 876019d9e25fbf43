// How far a program is, on stderr.
#include "progress.hpp"

#include <unistd.h>

#include <cstdio>

#include "command_line.hpp"
#include "format.hpp"

namespace bsbr::apps {

ProgressMode progress_mode(const std::string& option, const std::string& text) {
  if (text == "auto") return ProgressMode::automatic;
  if (text == "on") return ProgressMode::on;
  if (text == "off") return ProgressMode::off;
  refuse_name(option, text, "auto, on, off");
}

Progress::Progress(ProgressMode mode, bool first, std::string program)
    : m_speaks(first && mode != ProgressMode::off),
      m_terminal(isatty(STDERR_FILENO) == 1),
      m_program(std::move(program)),
      m_start(std::chrono::steady_clock::now()) {
  if (mode == ProgressMode::automatic && !m_terminal) m_speaks = false;
}

Progress::~Progress() {
  if (m_speaks && m_terminal) std::fputs("\r\033[K", stderr);
}

void Progress::step(const std::string& what) const {
  if (!m_speaks) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - m_start).count();
  const std::string text = m_program + ": " + what + " (after " + show_number("%.1f s", seconds) + ")";
  std::fprintf(stderr, m_terminal ? "\r\033[K%s" : "%s\n", text.c_str());
  std::fflush(stderr);
}

}  // namespace bsbr::apps
