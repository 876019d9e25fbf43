// Which of HDF5's types are read, and what the others are called.
#pragma once

#include <string>

#include "io/hdf5.hpp"

namespace bsbr::io {

/// Two's complement of 8, 16, 32 or 64 bits, of either byte order and sign. An enumeration of such, as h5py writes booleans, is not one.
bool is_integer(hid_t type);

/// The integers of an enumeration are (h5py writes a boolean as one).
bool is_integer_or_boolean(hid_t type);

/// IEEE float32 or float64, of either byte order.
bool is_real(hid_t type);

/// The HDF5 type of a float or double in memory.
template <class Real>
hid_t native_real();

/// "64-bit integers", "text", "16-bit floating-point numbers": for messages.
std::string describe(hid_t type);

}  // namespace bsbr::io
