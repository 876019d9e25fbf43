// Names of outputs: nothing that is read, and no other output, may be overwritten.
#pragma once

#include <string>
#include <vector>

namespace bsbr::apps {

/// A file as an option of the command line names it.
struct NamedFile {
  std::string option, path;
};

/// Throws UsageError if two of `written`, or one of them and one of `read`, are one file, by whatever names: links,
/// relative paths, and the <name>.part that an output is made under count. Files without a name are left out. `prints`:
/// stdout is written to as well, so that it counts where it has been redirected to a file.
void require_own_names(std::vector<NamedFile> written, std::vector<NamedFile> read, bool prints);

/// Throws UsageError for "-", which stands for stdout elsewhere: `what` is a file, and is renamed when it is whole.
void refuse_stdout(const NamedFile& file, const std::string& what);

}  // namespace bsbr::apps
