#include "io/descriptor.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "io/text.hpp"

namespace bsbr::io {
namespace {

constexpr std::int64_t piece = 1 << 30;  // what the system reads and writes in one call is limited

/// Calls transfer(offset, pointer, size), which is pread or pwrite, until all bytes are through or it says 0. Returns
/// how many are.
template <class Byte, class Transfer>
std::int64_t transfer_all(std::int64_t offset, Byte* bytes, std::int64_t size, const std::string& doing,
                          Transfer&& transfer) {
  std::int64_t done = 0;
  while (done < size) {
    const auto now = transfer(offset + done, bytes + done, static_cast<std::size_t>(std::min(piece, size - done)));
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) fail(doing, errno);
    if (now == 0) break;
    done += now;
  }
  return done;
}

}  // namespace

void fail(const std::string& doing, int error) { throw ContentError(doing + ": " + system_text(error)); }

Descriptor::Descriptor(const std::string& path, int flags, std::string doing)
    : m_doing(std::move(doing)), m_descriptor(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
  if (m_descriptor < 0) fail(m_doing, errno);
}

Descriptor::~Descriptor() {
  if (m_descriptor >= 0) ::close(m_descriptor);
}

std::int64_t Descriptor::size() const {
  struct stat state {};
  if (::fstat(m_descriptor, &state) != 0) fail(m_doing, errno);
  return state.st_size;
}

std::int64_t Descriptor::identity() const {
  struct stat state {};
  if (::fstat(m_descriptor, &state) != 0) fail(m_doing, errno);
  return static_cast<std::int64_t>(state.st_ino);
}

std::int64_t Descriptor::read(std::int64_t offset, void* bytes, std::int64_t size) const {
  return transfer_all(
      offset, static_cast<char*>(bytes), size, m_doing,
      [&](std::int64_t at, char* to, std::size_t count) { return ::pread(m_descriptor, to, count, at); });
}

void Descriptor::write(std::int64_t offset, const void* bytes, std::int64_t size) const {
  const auto written = transfer_all(
      offset, static_cast<const char*>(bytes), size, m_doing,
      [&](std::int64_t at, const char* from, std::size_t count) { return ::pwrite(m_descriptor, from, count, at); });
  if (written != size) fail(m_doing, ENOSPC);
}

void Descriptor::resize(std::int64_t size) const {
  if (::ftruncate(m_descriptor, size) != 0) fail(m_doing, errno);
}

void Descriptor::try_close() const {
  const int copy = ::fcntl(m_descriptor, F_DUPFD_CLOEXEC, 0);
  if (copy < 0 || ::close(copy) != 0) fail(m_doing, errno);
}

void Descriptor::sync() const {
  if (::fsync(m_descriptor) != 0 && errno != EINVAL && errno != ENOTSUP)
    fail(m_doing, errno);  // those two: there is nothing to sync
}

void Descriptor::close() {
  if (::close(std::exchange(m_descriptor, -1)) != 0) fail(m_doing, errno);
}

}  // namespace bsbr::io
