// Which of HDF5's types are read, and what the others are called.
#pragma once

#include <string>

#include "io/hdf5.hpp"

namespace bsbr::io {

/// Two's complement of 8, 16, 32 or 64 bits, of either byte order and sign. An enumeration of such, as h5py writes
/// booleans, is not one.
bool is_integer(hid_t type);

/// A bit field of 8 bits, as PyTables writes a boolean. HDF5 converts them to nothing else.
bool is_bit_field(hid_t type);

/// An integer, or a boolean: an enumeration of integers, as h5py writes one, or a bit field.
bool is_integer_or_boolean(hid_t type);

/// IEEE float32 or float64, of either byte order.
bool is_real(hid_t type);

/// The HDF5 type of a float or double in memory.
template <class Real>
hid_t native_real();

/// "uint16".
std::string name_of_integer(hid_t type);

/// "64-bit integers", "text", "16-bit floating-point numbers": for messages.
std::string describe(hid_t type);

}  // namespace bsbr::io
