// What a file says it is: attributes `format` and `format_version` of the root.
#pragma once

#include <cstdint>

#include "io/hdf5.hpp"

namespace bsbr::io {

struct FileFormat {
  const char* name;      ///< "bsbr-model"
  const char* what;      ///< for messages: "a model file"
  std::int64_t version;  ///< that this library writes and reads
};

void write_format(hid_t file, const FileFormat& format);

/// Throws ContentError unless the file is of this format and version.
void check_format(hid_t file, const FileFormat& format);

}  // namespace bsbr::io
