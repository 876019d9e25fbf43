// Files compared by what the system says they are, where they exist, and else by folder and name.
#include "files/output_names.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "harness/job/failure.hpp"
#include "io/paths.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

using Inode = std::pair<dev_t, ino_t>;

std::optional<Inode> inode_of(const std::string& path) {
  struct stat state {};
  if (::stat(path.c_str(), &state) != 0) return std::nullopt;
  return Inode{state.st_dev, state.st_ino};
}

/// Two names in folders that do not exist are compared as texts: no file will be made there.
bool same_place(const std::string& one, const std::string& other) {
  const std::filesystem::path first(one), second(other);
  if (first.filename() != second.filename()) return false;
  const auto folder = inode_of(io::folder_of(one)), other_folder = inode_of(io::folder_of(other));
  if (folder || other_folder) return folder == other_folder;
  std::error_code ignored;
  return std::filesystem::weakly_canonical(first, ignored) == std::filesystem::weakly_canonical(second, ignored);
}

bool same_file(const std::string& one, const std::string& other) {
  const auto inode = inode_of(one);
  return (inode && inode == inode_of(other)) || same_place(io::target_of(one), io::target_of(other));
}

constexpr const char* stdout_name = "stdout";

std::string shown(const NamedFile& file) {
  return file.option == stdout_name ? file.option : file.option + " " + file.path;
}

std::string part_of(const NamedFile& file) { return io::part_of(io::target_of(file.path)); }

/// `other` must be neither the file of `output` nor the one that this is made under.
void require_apart(const NamedFile& output, const NamedFile& other) {
  const std::string hint = "give each a name of its own";
  if (same_file(output.path, other.path))
    throw UsageError(shown(output) + " and " + shown(other) + " are the same file", hint);
  if (same_file(part_of(output), other.path)) {
    throw UsageError(
        shown(output) + " is first written as " + part_of(output) + ", which is the file of " + shown(other), hint);
  }
}

/// Where stdout goes to a file, that file under the name by which all programs see it.
std::optional<NamedFile> redirected_stdout() {
  struct stat state {};
  if (::fstat(STDOUT_FILENO, &state) != 0 || !S_ISREG(state.st_mode)) return std::nullopt;
  return NamedFile{stdout_name, "/dev/fd/1"};
}

}  // namespace

void require_own_names(std::vector<NamedFile> written, std::vector<NamedFile> read, bool prints) {
  const auto has_no_name = [](const NamedFile& file) { return file.path.empty(); };
  std::erase_if(written, has_no_name);
  std::erase_if(read, has_no_name);
  if (const auto redirected = redirected_stdout(); prints && redirected) read.push_back(*redirected);
  for (std::size_t i = 0; i < written.size(); ++i) {
    for (const NamedFile& file : read) require_apart(written[i], file);
    for (std::size_t j = 0; j < written.size(); ++j) {
      if (i != j) require_apart(written[i], written[j]);
    }
  }
}

void refuse_stdout(const NamedFile& file, const std::string& what) {
  if (file.path != "-") return;
  throw UsageError(file.option + " -: " + what + " cannot be written to stdout",
                   "name a file; ./- is one that is called so");
}

}  // namespace bsbr::apps
