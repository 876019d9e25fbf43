#include "io/attributes.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "io/datatype.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

constexpr std::size_t longest_text = 1 << 16, most_values = 1 << 13, most_attributes = 1000;

std::string label(const std::string& name) { return "attribute " + printable(name, 200); }

Handle scalar_space() { return {H5Screate(H5S_SCALAR), H5Sclose, "HDF5"}; }

/// Text of variable length, in the character set that the file's text has.
Handle variable_text(H5T_cset_t set) {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "HDF5");
  check_hdf5(H5Tset_size(type, H5T_VARIABLE), "HDF5");
  check_hdf5(H5Tset_cset(type, set), "HDF5");
  return type;
}

/// Bytes that an attribute of one value takes in its file: a text of variable length lies elsewhere, and here is its
/// length and place.
std::size_t stored_bytes(hid_t attribute, hid_t type) {
  if (H5Tis_variable_str(type) <= 0) return H5Tget_size(type);
  const Handle file(H5Iget_file_id(attribute), H5Fclose, "HDF5"), creation(H5Fget_create_plist(file), H5Pclose, "HDF5");
  std::size_t address = 0;
  check_hdf5(H5Pget_sizes(creation, &address, nullptr), "HDF5");
  return 4 + address + 4;
}

/// HDF5 copies what the type says, however little an attribute holds.
void require_stored(hid_t attribute, std::size_t needed, const std::string& name) {
  const hsize_t stored = H5Aget_storage_size(attribute);
  if (stored < needed) {
    throw ContentError(label(name) + " holds " + std::to_string(stored) + " bytes, must be " + std::to_string(needed),
                       "the file is damaged");
  }
}

/// HDF5 makes room for as many characters of a text as it has, of a size that the file says.
void require_characters(hid_t type, const std::string& name) {
  const Handle character(H5Tget_super(type), H5Tclose, label(name) + " cannot be read");
  if (const std::size_t size = H5Tget_size(character); size != 1) {
    throw ContentError(label(name) + " is a text whose characters take " + std::to_string(size) + " bytes, must be 1",
                       "the file is damaged");
  }
}

std::string read_variable_text(hid_t attribute, hid_t type, const std::string& name) {
  require_characters(type, name);
  const Handle memory = variable_text(H5Tget_cset(type));
  char* text = nullptr;
  check_hdf5(H5Aread(attribute, memory, &text), label(name) + " cannot be read");
  const std::string copy(text == nullptr ? "" : text);
  const Handle space = scalar_space();
#if H5_VERSION_GE(1, 12, 0)
  H5Treclaim(memory, space, H5P_DEFAULT, &text);
#else
  H5Dvlen_reclaim(memory, space, H5P_DEFAULT, &text);
#endif
  return copy;
}

std::string read_fixed_text(hid_t attribute, hid_t type, const std::string& name) {
  const std::size_t size = H5Tget_size(type);
  if (size > longest_text) throw ContentError(label(name) + " is a text of " + std::to_string(size) + " bytes");
  std::string text(size, '\0');
  check_hdf5(H5Aread(attribute, type, text.data()), label(name) + " cannot be read");
  text.resize(std::min(text.find('\0'), text.size()));
  if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) text.resize(text.find_last_not_of(' ') + 1);
  return text;
}

AttributeValue read_integer(hid_t attribute, hid_t type, const std::string& name) {
  std::int64_t value = 0;
  std::uint64_t large = 0;
  const bool is_unsigned = H5Tget_sign(type) == H5T_SGN_NONE;
  if (is_unsigned)
    check_hdf5(H5Aread(attribute, H5T_NATIVE_UINT64, &large), label(name) + " cannot be read");
  else
    check_hdf5(H5Aread(attribute, H5T_NATIVE_INT64, &value), label(name) + " cannot be read");
  if (large > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return static_cast<double>(large);
  return is_unsigned ? static_cast<std::int64_t>(large) : value;
}

AttributeValue read_value(hid_t attribute, hid_t type, const std::string& name) {
  const bool integer = is_integer(type), real = is_real(type);
  if (!integer && !real && H5Tget_class(type) != H5T_STRING) {
    throw ContentError(label(name) + " holds " + describe(type) + ", not a text or a number");
  }
  require_stored(attribute, stored_bytes(attribute, type), name);
  if (integer) return read_integer(attribute, type, name);
  if (real) {
    double value = 0;
    check_hdf5(H5Aread(attribute, H5T_NATIVE_DOUBLE, &value), label(name) + " cannot be read");
    return value;
  }
  return H5Tis_variable_str(type) > 0 ? read_variable_text(attribute, type, name)
                                      : read_fixed_text(attribute, type, name);
}

void write_value(hid_t object, const std::string& name, hid_t file_type, hid_t memory_type, const void* value,
                 const Handle& space = scalar_space()) {
  Handle attribute(H5Acreate2(object, name.c_str(), file_type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, label(name));
  check_hdf5(H5Awrite(attribute, memory_type, value), label(name));
}

/// Ends the iteration where there are too many.
herr_t add_name(hid_t, const char* name, const H5A_info_t*, void* data) noexcept {
  auto& names = *static_cast<std::vector<std::string>*>(data);
  names.emplace_back(name);
  return names.size() > most_attributes ? 1 : 0;
}

/// The values of an attribute that is a list of integers. Nothing for others.
std::optional<std::vector<std::int64_t>> read_integers(hid_t object, const std::string& name) {
  const std::string doing = label(name) + " cannot be read";
  const Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, doing),
      space(H5Aget_space(attribute), H5Sclose, doing), type(H5Aget_type(attribute), H5Tclose, doing);
  if (H5Sget_simple_extent_ndims(space) != 1 || !is_integer(type)) return std::nullopt;
  const auto values = static_cast<std::size_t>(check_hdf5(H5Sget_simple_extent_npoints(space), doing));
  if (values > most_values) throw ContentError(label(name) + " holds " + std::to_string(values) + " values");
  require_stored(attribute, values * H5Tget_size(type), name);
  std::vector<std::int64_t> read(values);
  if (values > 0) check_hdf5(H5Aread(attribute, H5T_NATIVE_INT64, read.data()), doing);
  return read;
}

}  // namespace

std::optional<AttributeValue> read_attribute(hid_t object, const std::string& name) {
  if (check_hdf5(H5Aexists(object, name.c_str()), label(name) + " cannot be read") == 0) return std::nullopt;
  const Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, label(name) + " cannot be read");
  const Handle space(H5Aget_space(attribute), H5Sclose, label(name) + " cannot be read");
  const auto values = check_hdf5(H5Sget_simple_extent_npoints(space), label(name) + " cannot be read");
  if (values != 1) throw ContentError(label(name) + " holds " + std::to_string(values) + " values, not one");
  const Handle type(H5Aget_type(attribute), H5Tclose, label(name) + " cannot be read");
  return read_value(attribute, type, name);
}

std::optional<std::int64_t> whole_number(const AttributeValue& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  constexpr double limit = 0x1p63;
  const auto* real = std::get_if<double>(&value);
  if (real == nullptr || std::trunc(*real) != *real || std::abs(*real) >= limit) return std::nullopt;
  return static_cast<std::int64_t>(*real);
}

void write_attribute(hid_t object, const std::string& name, const AttributeValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    const Handle type = variable_text(H5T_CSET_UTF8);
    const char* begin = text->c_str();
    write_value(object, name, type, type, &begin);
  } else if (const auto* number = std::get_if<std::int64_t>(&value)) {
    write_value(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, number);
  } else {
    write_value(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &std::get<double>(value));
  }
}

void write_attribute(hid_t object, const std::string& name, const std::vector<std::int64_t>& values) {
  const hsize_t count = values.size();
  const Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose, label(name));
  write_value(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, values.data(), space);
}

void write_attributes(hid_t object, const Attributes& attributes) {
  for (const auto& [name, value] : attributes) {
    if (H5Aexists(object, name.c_str()) > 0) throw ContentError(label(name) + " is given twice");
    std::visit([&, &key = name](const auto& one) { write_attribute(object, key, one); }, value);
  }
}

Attributes read_attributes(hid_t object) {
  std::vector<std::string> names;
  check_hdf5(H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, add_name, &names), "attributes cannot be read");
  if (names.size() > most_attributes)
    throw ContentError("there are more than " + std::to_string(most_attributes) + " attributes in one place");
  Attributes attributes;
  for (const std::string& name : names) {
    if (auto several = read_integers(object, name)) {
      attributes[name] = std::move(*several);
    } else if (const auto one = read_attribute(object, name)) {
      std::visit([&, &key = name](const auto& value) { attributes[key] = value; }, *one);
    }
  }
  return attributes;
}

void change_attribute(hid_t object, const std::string& name, std::int64_t value) {
  const Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, label(name));
  check_hdf5(H5Awrite(attribute, H5T_NATIVE_INT64, &value), label(name));
}

std::string show(const AttributeValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return quoted(*text);
  if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
  const double real = std::get<double>(value);
  if (std::isnan(real)) return "nan";
  std::array<char, 32> digits{};  // the shortest that give the number back
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), real).ptr};
}

}  // namespace bsbr::io
