// Signal handlers, which may do no more than remove a file and let the signal have its way.
#include "unfinished_file.hpp"

#include <unistd.h>

#include <array>
#include <csignal>
#include <exception>

namespace bsbr::apps {
namespace {

constexpr std::array signals{SIGTERM, SIGINT, SIGHUP, SIGXCPU};
std::string part;  // made beforehand: the handler must not allocate

extern "C" void remove_part(int signal) {
  ::unlink(part.c_str());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

UnfinishedFile::UnfinishedFile(const std::string& path) : m_exceptions(std::uncaught_exceptions()) {
  if (path.empty()) return;
  part = path + ".part";
  for (const int signal : signals) {
    if (std::signal(signal, remove_part) == SIG_IGN) std::signal(signal, SIG_IGN);  // nohup and the like
  }
}

UnfinishedFile::~UnfinishedFile() {
  if (part.empty()) return;
  if (std::uncaught_exceptions() > m_exceptions) ::unlink(part.c_str());
  for (const int signal : signals) {
    if (std::signal(signal, SIG_DFL) == SIG_IGN) std::signal(signal, SIG_IGN);
  }
  part.clear();
}

}  // namespace bsbr::apps
