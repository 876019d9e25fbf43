#include "io/paths.hpp"

#include <filesystem>

namespace bsbr::io {

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::string target_of(const std::string& path) {
  constexpr int most_links = 40;  // as the system follows
  std::filesystem::path target = path;
  std::error_code failed;
  for (int links = 0; links < most_links && std::filesystem::is_symlink(target, failed); ++links) {
    target = target.parent_path() / std::filesystem::read_symlink(target, failed);
  }
  return target.string();
}

std::string part_of(const std::string& target) { return target + ".part"; }

}  // namespace bsbr::io
