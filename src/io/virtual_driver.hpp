// What our drivers of HDF5's virtual file layer have in common: their class, but for its functions, and how a file gets
// one.
#pragma once

#include "io/hdf5.hpp"

#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

namespace bsbr::io {

/// A driver class without functions. `value` identifies it among all drivers of the process: 256 to 511 are free, as
/// HDF5 registers none of them. HDF5 copies `access_size` bytes when a file gets the driver.
H5FD_class_t make_driver_class(const char* name, int value, std::size_t access_size);

/// A driver that HDF5 knows from its first file on, for as long as the process lives. It must not go with the last
/// file: H5FD_close of HDF5 1.10 gives up its reference to the driver before it looks up the function that closes the
/// file.
struct Driver {
  H5FD_class_t functions;
  hid_t id = H5I_INVALID_HID;
};

/// Files that are opened with `access` use `driver`; `driver_access` is copied.
void set_driver(hid_t access, Driver& driver, const void* driver_access);

}  // namespace bsbr::io
