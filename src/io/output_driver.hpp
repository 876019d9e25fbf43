// A file driver for files that are written: HDF5 writes by way of it, and never meets an error.
#pragma once

#include <optional>

#include "io/descriptor.hpp"
#include "io/hdf5.hpp"

namespace bsbr::io {

/// A file that HDF5 writes, and how that went.
struct OutputAccess {
  const Descriptor* file;
  std::optional<ContentError>* failure;  ///< the first error of all writes; nothing is written after it
};

/// With `access`, a file is one that is open already, whatever its name. HDF5 does not recover from a write or a close
/// that fails: it keeps the file and crashes over it when the process ends. So every write succeeds as far as HDF5 can
/// see, and `output` tells the truth; the descriptor stays open. What `output` refers to must live until the file is
/// closed.
void use_output_driver(hid_t access, const OutputAccess& output);

}  // namespace bsbr::io
