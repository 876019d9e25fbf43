#include "io/datatype.hpp"

namespace bsbr::io {
namespace {

/// The known types are arguments, each by itself: HDF5's names for them call a function, which nvcc garbles within the
/// braces of a list.
template <class... Types>
bool is_any_of(hid_t type, Types... known) {
  return ((H5Tequal(type, known) > 0) || ...);
}

}  // namespace

bool is_integer(hid_t type) {
  return is_any_of(type, H5T_STD_I8LE, H5T_STD_U8LE, H5T_STD_I8BE, H5T_STD_U8BE, H5T_STD_I16LE, H5T_STD_U16LE,
                   H5T_STD_I16BE, H5T_STD_U16BE, H5T_STD_I32LE, H5T_STD_U32LE, H5T_STD_I32BE, H5T_STD_U32BE,
                   H5T_STD_I64LE, H5T_STD_U64LE, H5T_STD_I64BE, H5T_STD_U64BE);
}

bool is_bit_field(hid_t type) { return H5Tequal(type, H5T_STD_B8LE) > 0 || H5Tequal(type, H5T_STD_B8BE) > 0; }

bool is_integer_or_boolean(hid_t type) {
  if (H5Tget_class(type) != H5T_ENUM) return is_integer(type) || is_bit_field(type);
  const Handle base(H5Tget_super(type), H5Tclose, "HDF5");
  return is_integer(base);
}

bool is_real(hid_t type) { return is_any_of(type, H5T_IEEE_F32LE, H5T_IEEE_F32BE, H5T_IEEE_F64LE, H5T_IEEE_F64BE); }

template <>
hid_t native_real<float>() {
  return H5T_NATIVE_FLOAT;
}

template <>
hid_t native_real<double>() {
  return H5T_NATIVE_DOUBLE;
}

std::string name_of_integer(hid_t type) {
  return (H5Tget_sign(type) == H5T_SGN_NONE ? "uint" : "int") + std::to_string(8 * H5Tget_size(type));
}

std::string describe(hid_t type) {
  const std::size_t size = 8 * H5Tget_size(type), used = H5Tget_precision(type);
  const std::string bits = std::to_string(size) + "-bit ";
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return bits + "integers" + (used < size ? ", of which only " + std::to_string(used) + " bits are used" : "");
    case H5T_BITFIELD:
      return bits + "bit fields";
    case H5T_FLOAT:
      return bits + "floating-point numbers" + (is_real(type) || H5Tget_size(type) == 2 ? "" : " of an unusual format");
    case H5T_STRING:
      return "text";
    case H5T_COMPOUND:
      return "records";
    case H5T_REFERENCE:
      return "references";
    case H5T_ENUM:
      return "an enumeration";
    case H5T_VLEN:
      return "lists of different lengths";
    case H5T_ARRAY:
      return "arrays";
    default:
      return "elements that are not numbers";
  }
}

}  // namespace bsbr::io
