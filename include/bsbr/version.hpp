// The version of the library.
#pragma once

#include <string>

namespace bsbr {

/// Version and, where it is known, commit of the library: "0.1.0+g1a2b3c4d5e6f".
std::string version();

/// The commit alone, "1a2b3c4d5e6f", or "unknown".
std::string git_commit();

}  // namespace bsbr
