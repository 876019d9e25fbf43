// The terminal that shows what a program writes to stderr.
#include "progress/terminal.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "harness/job/launcher.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

std::string process_file(long process, const std::string& name) {
  return "/proc/" + std::to_string(process) + "/" + name;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// 0 if it has none that can be seen. /proc/PID/stat: "20 (a name) S 19 ...", and the name may hold anything.
long parent_of(long process) {
  const std::string stat = content_of(process_file(process, "stat"));
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream rest(stat.substr(name_end + 1));
  std::string state;
  long parent = 0;
  rest >> state >> parent;
  return parent;
}

/// What users type; the daemons between it and the ranks (orted, hydra_pmi_proxy, a shell) have other names.
bool is_launcher(long process) {
  const std::string name = content_of(process_file(process, "comm"));
  for (const char* launcher : {"mpirun", "mpiexec", "orterun", "prterun"}) {
    if (name.starts_with(launcher)) return true;
  }
  return false;
}

/// Opened anew, not to be shared with the other process.
int open_stderr_of(long process) {
  const int descriptor = open(process_file(process, "fd/2").c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor >= 0 && isatty(descriptor) == 1) return descriptor;
  if (descriptor >= 0) close(descriptor);
  return -1;
}

}  // namespace

Terminal::Terminal() {
  if (isatty(STDERR_FILENO) == 1) {
    m_descriptor = dup(STDERR_FILENO);
    return;
  }
  if (find_launcher().alone || std::getenv("OMPI_MCA_orte_output_filename") != nullptr)
    return;  // mpirun --output-filename: to files
  for (long process = getppid(); process > 1; process = parent_of(process)) {
    if (!is_launcher(process)) continue;
    m_descriptor = open_stderr_of(process);
    return;
  }
}

Terminal::~Terminal() {
  if (m_descriptor >= 0) close(m_descriptor);
}

int Terminal::columns() const {
  winsize size{};
  return ioctl(m_descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace bsbr::apps
