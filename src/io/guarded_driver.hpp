// A file driver for files from strangers: HDF5 reads by way of it, and does not get to see what its parser would not stand.
#pragma once

#include "io/hdf5.hpp"

namespace bsbr::io {

/// How a file is opened by the driver behind the guard.
struct GuardedAccess {
  hid_t posix;       ///< properties that have the driver of POSIX
  int length_width;  ///< bytes of a length in the file's metadata, 2 to 8 (HDF5 File Format Specification, section II.A)
};

/// Puts a guard before a driver: with `access`, a file is opened and read by that of POSIX, but a global heap, where texts of variable
/// length are, reaches HDF5 only if its objects lie within it. Over others HDF5 1.10.8 does not end, or copies far more than there is. The
/// read that meets one fails. What `guarded` refers to must live until the file is open.
void use_guarded_driver(hid_t access, const GuardedAccess& guarded);

}  // namespace bsbr::io
