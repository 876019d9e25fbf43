// HDF5 virtual file driver for untrusted files: rejects corrupt global heaps before HDF5 parses them.
#pragma once

#include "io/hdf5.hpp"

namespace bsbr::io {

/// How a file is opened by the driver behind the guard.
struct GuardedAccess {
  hid_t posix;       ///< properties that have the driver of POSIX
  int length_width;  ///< bytes of a length in the file's metadata, 2 to 8 (HDF5 File Format Specification, section
                     ///< II.A)
};

/// Makes `access` open and read a file through the POSIX driver with a guard before it: a global heap, which holds
/// texts of variable length, reaches HDF5 only if its objects lie within it. On other heaps HDF5 1.10.8 loops, or
/// copies far more than there is; here the read fails. What `guarded` refers to must live until the file is open.
void use_guarded_driver(hid_t access, const GuardedAccess& guarded);

}  // namespace bsbr::io
