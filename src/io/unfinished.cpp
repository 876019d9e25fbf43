#include "io/unfinished.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <exception>

#include "bsbr/io.hpp"

namespace bsbr {
namespace {

// Plain memory, which a signal handler may read at any time: the name counts only while `exists` is set.
std::array<char, 4096> name;
std::int64_t identity = 0;
volatile std::sig_atomic_t exists = 0;

}  // namespace

void remove_unfinished_file() noexcept {
  struct stat state {};
  if (exists == 0 || ::stat(name.data(), &state) != 0 || static_cast<std::int64_t>(state.st_ino) != identity) return;
  ::unlink(name.data());
}

namespace io {

UnfinishedFile::UnfinishedFile(const std::string& part, std::int64_t file_identity)
    : m_exceptions(std::uncaught_exceptions()) {
  if (part.size() >= name.size()) return;  // longer than the system takes
  std::copy_n(part.c_str(), part.size() + 1, name.begin());
  identity = file_identity;
  exists = 1;
}

UnfinishedFile::~UnfinishedFile() {
  if (std::uncaught_exceptions() > m_exceptions) remove_unfinished_file();
  exists = 0;
}

}  // namespace io
}  // namespace bsbr
