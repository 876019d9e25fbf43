// Files that are neither HDF5 nor .npy, told by how they begin or by their names.
#pragma once

#include <optional>
#include <string>

#include "io/descriptor.hpp"

namespace bsbr::io {

struct FileKind {
  std::string name;  ///< with its article: "a Git LFS pointer"
  std::string hint;  ///< how to get at what is in it
};

/// What the first bytes say: a container or compressed file, whose bytes are nobody's tokens. Nothing for all others,
/// text included.
std::optional<FileKind> find_file_kind(const Descriptor& file);

/// The ending of a name that promises something else than one token in each byte: ".bin", ".json"; empty for all
/// others.
std::string foreign_ending(const std::string& path);

}  // namespace bsbr::io
