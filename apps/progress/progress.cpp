// How far a program is, on stderr.
#include "progress/progress.hpp"

#include <algorithm>
#include <cstdio>

#include "harness/command_line/command_line.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr double redraw_interval = 0.2;    // seconds, on a terminal
constexpr double quick_redraw = 0.05;      // where a layer begins
constexpr std::int64_t few_forwards = 10;  // so many have a line each; of more, only some would be read

ProgressMode progress_mode(const std::string& option, const std::string& text) {
  if (text == "auto") return ProgressMode::automatic;
  if (text == "on") return ProgressMode::on;
  if (text == "off") return ProgressMode::off;
  refuse_name(option, text, "auto, on, off");
}

}  // namespace

void add_progress_options(CommandLine& line, ProgressOptions& options) {
  constexpr double least = 0.1, most = 1e6;
  line.add("--progress", "auto|on|off",
           "progress on stderr; auto: only if a terminal shows it, also that of mpirun (default auto)",
           [&options](const std::string& name, const std::string& text) { options.mode = progress_mode(name, text); });
  line.offer("--progress", "auto, on, off");
  line.add("--progress-interval", "SECONDS", "time between lines of progress in a log (default 60)",
           [&options](const std::string& name, const std::string& text) {
             options.interval = number(name, text, least, most);
           });
}

Progress::Progress(const ProgressOptions& options, bool first, std::string program)
    : m_first(first),
      m_shows(first && options.mode != ProgressMode::off),
      m_program(std::move(program)),
      m_start(std::chrono::steady_clock::now()) {
  if (options.mode == ProgressMode::automatic && !m_terminal.there() && !options.in_logs) m_shows = false;
  m_announces = options.mode == ProgressMode::on || m_terminal.there();
  m_interval = m_terminal.there() ? redraw_interval : options.interval;
}

Progress::~Progress() {
  if (!m_shows) return;
  {
    const std::lock_guard lock(m_mutex);
    m_ended = true;
  }
  m_end.notify_all();
  if (m_writer.joinable()) m_writer.join();
  if (m_terminal.there()) std::fputs("\r\033[K", stderr);
}

void Progress::step(const std::string& what) {
  if (!m_shows) return;
  const std::lock_guard lock(m_mutex);
  m_what = what;
  m_in_forward = false;
  if (m_announces) show();
  start();
}

void Progress::update(const std::string& what) {
  if (!m_shows) return;
  const std::lock_guard lock(m_mutex);
  m_what = what;
  m_in_forward = false;
  start();
}

void Progress::warn(const std::string& text) {
  if (!m_first || text.empty()) return;
  const std::lock_guard lock(m_mutex);
  const char* const begin = m_shows && m_terminal.there() ? "\r\033[K" : "";
  std::fprintf(stderr, "%s%s: warning: %s\n", begin, m_program.c_str(), text.c_str());
  std::fflush(stderr);
}

std::function<void(const ForwardProgress&)> Progress::forward(const std::string& what, std::int64_t number,
                                                              std::int64_t count) {
  if (!m_shows) return {};
  const std::lock_guard lock(m_mutex);
  m_what = what;
  m_in_forward = true;
  m_pace.begin(number, count, now());
  if (number == 0 || count <= few_forwards) show();
  start();
  return [this](const ForwardProgress& progress) {
    const std::lock_guard in_callback(m_mutex);
    const bool new_layer = m_pace.update(progress, now());
    if (new_layer && m_terminal.there() && now() > m_shown + quick_redraw) show();
  };
}

double Progress::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - m_start).count();
}

/// In the first step there is something to show, and the thread begins.
void Progress::start() {
  if (!m_writer.joinable()) m_writer = std::thread([this] { run(); });
}

/// The thread's: shows again what has not been shown for some time.
void Progress::run() {
  std::unique_lock lock(m_mutex);
  while (!m_ended) {
    m_end.wait_for(lock, std::chrono::duration<double>(std::max(m_shown + m_interval - now(), 0.0)));
    if (!m_ended && now() >= m_shown + m_interval) show();
  }
}

void Progress::show() {
  m_shown = now();
  std::string text = m_program + ": " + m_what + (m_in_forward ? m_pace.text(m_shown) : "") + " (after " +
                     show_duration(m_shown) + ")";
  if (m_terminal.there()) {
    text.resize(std::min(text.size(), static_cast<std::size_t>(m_terminal.columns() - 1)));
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
  } else {
    std::fprintf(stderr, "%s\n", text.c_str());
  }
  std::fflush(stderr);
}

}  // namespace bsbr::apps
