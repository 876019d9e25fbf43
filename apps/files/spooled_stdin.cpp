// Stdin as a file that every rank can read.
#include "files/spooled_stdin.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "bsbr/error.hpp"
#include "bsbr/parallel.hpp"

namespace bsbr::apps {
namespace {

constexpr std::size_t piece_bytes = std::size_t{16} << 20;

/// As much as there is, up to a piece; empty at the end.
std::string read_piece() {
  std::string piece(piece_bytes, '\0');
  std::size_t done = 0;
  while (done < piece.size()) {
    const ssize_t got = ::read(STDIN_FILENO, piece.data() + done, piece.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw FileError(std::string("stdin: cannot be read: ") + std::strerror(errno));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  piece.resize(done);
  return piece;
}

void write_all(int descriptor, const std::string& piece) {
  for (std::size_t done = 0; done < piece.size();) {
    const ssize_t put = ::write(descriptor, piece.data() + done, piece.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0)
      throw MemoryError(std::string("not enough memory for stdin: ") + std::strerror(errno),
                        "write it to a file and name that");
    done += static_cast<std::size_t>(put);
  }
}

}  // namespace

SpooledStdin::SpooledStdin(MPI_Comm comm) {
  parallel::agree(comm, [&] {
    m_descriptor = memfd_create("bsbr-stdin", MFD_CLOEXEC);
    if (m_descriptor < 0)
      throw MemoryError(std::string("no room for stdin: ") + std::strerror(errno), "write it to a file and name that");
  });
  for (std::string piece = "not read yet"; !piece.empty();) {
    parallel::agree(comm, [&] {
      if (parallel::rank_in(comm) == 0) piece = read_piece();
    });
    parallel::broadcast(piece, comm);
    parallel::agree(comm, [&] { write_all(m_descriptor, piece); });
  }
}

SpooledStdin::~SpooledStdin() {
  if (m_descriptor >= 0) close(m_descriptor);
}

std::string SpooledStdin::renamed(std::string message) const {
  const std::string own = path();
  for (auto place = message.find(own); place != std::string::npos; place = message.find(own))
    message.replace(place, own.size(), "stdin");
  return message;
}

}  // namespace bsbr::apps
