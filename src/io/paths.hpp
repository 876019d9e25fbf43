// Names of files that are written.
#pragma once

#include <string>

namespace bsbr::io {

/// "." for a name without a folder.
std::string folder_of(const std::string& path);

/// The file that writing to `path` makes: a link stays, and what it points to is replaced.
std::string target_of(const std::string& path);

/// The name that the file of a target is made under: <target>.part.
std::string part_of(const std::string& target);

}  // namespace bsbr::io
