// Which version of the library this is.
#pragma once

#include <string>

namespace bsbr {

/// "0.1.0+g1a2b3c4": the release, and the commit it was built from where that is known.
std::string version();

/// The commit alone, or "unknown".
std::string git_commit();

}  // namespace bsbr
