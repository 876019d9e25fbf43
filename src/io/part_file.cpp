#include "io/part_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "io/paths.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

void require_folder(const std::string& folder) {
  struct stat state {};
  const std::string shown = "the folder " + printable(folder);
  if (::stat(folder.c_str(), &state) != 0) {
    if (errno == ENOENT) throw ContentError(shown + " does not exist");
    fail(shown + " cannot be used", errno);
  }
  if (!S_ISDIR(state.st_mode)) throw ContentError(printable(folder) + " is not a folder");
  if (::access(folder.c_str(), W_OK | X_OK) != 0) fail(shown + " cannot be written to", errno);
}

/// In a folder like /tmp only its owner may replace a file: said before the work is done rather than by rename() after
/// it.
void require_owner(const std::string& path, const struct stat& file, const std::string& shown) {
  struct stat folder {};
  if (::stat(folder_of(path).c_str(), &folder) != 0 || (folder.st_mode & S_ISVTX) == 0) return;
  const uid_t user = ::geteuid();
  if (user == 0 || user == file.st_uid || user == folder.st_uid) return;
  throw ContentError(shown + "belongs to another user, and its folder lets only owners replace their files");
}

/// What stands under the name already may be replaced if it is a file.
void require_replaceable(const std::string& path, const std::string& shown) {
  struct stat state {};
  if (::stat(path.c_str(), &state) != 0) {
    if (errno != ENOENT) fail(shown + "cannot be written", errno);
    return;
  }
  if (S_ISDIR(state.st_mode)) throw ContentError(shown + "is a folder");
  if (!S_ISREG(state.st_mode)) throw ContentError(shown + "is a pipe or a device, not an ordinary file");
  require_owner(path, state, shown);
}

/// The name to make the file under, which a killed run may have left, or another one is still writing to: that file is
/// not written into.
std::string free_name(const std::string& path) {
  require_writable(path);
  const std::string part = part_of(path);
  if (::unlink(part.c_str()) != 0 && errno != ENOENT) fail(printable(part) + " cannot be replaced", errno);
  return part;
}

/// Makes the new name last. The file is whole and in its place by now, so a folder that cannot be synced is no error.
void sync_folder(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

void require_writable(const std::string& path) {
  if (path.empty()) throw ContentError("the name of the output is empty");
  require_replaceable(path, "");
  if (std::filesystem::path(path).filename().empty()) throw ContentError("is the name of a folder");
  const std::string target = target_of(path);
  require_folder(folder_of(target));
  require_replaceable(part_of(target), printable(part_of(target)) + " ");
}

PartFile::PartFile(const std::string& path)
    : m_path(target_of(path)),
      m_part(free_name(m_path)),
      m_file(m_part, O_CREAT | O_EXCL | O_RDWR, "cannot be written"),
      m_identity(m_file.identity()),
      m_unfinished(std::in_place, m_part, m_identity) {}

PartFile::~PartFile() {
  struct stat state {};
  const bool ours = ::stat(m_part.c_str(), &state) == 0 && static_cast<std::int64_t>(state.st_ino) == m_identity;
  if (m_unfinished && ours) ::unlink(m_part.c_str());
}

void PartFile::require_ours() const {
  if (Descriptor(m_part, O_RDONLY, "cannot be written").identity() == m_identity) return;
  throw ContentError("cannot be finished: another run has replaced " + printable(m_part),
                     "one run at a time can write a file");
}

void PartFile::commit() {
  require_ours();
  m_file.sync();
  m_file.try_close();
  if (::rename(m_part.c_str(), m_path.c_str()) != 0) fail("cannot be given its name", errno);
  m_unfinished.reset();
  sync_folder(folder_of(m_path));
}

}  // namespace bsbr::io
