// Attributes of HDF5 objects: one text or one number each; some integers can be written, too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bsbr/io.hpp"
#include "io/hdf5.hpp"

namespace bsbr::io {

using AttributeValue = std::variant<std::string, std::int64_t, double>;

/// The value of an attribute, or nothing if there is no such attribute. Throws ContentError for arrays and other types.
/// An integer that only 64 unsigned bits can hold becomes a double.
std::optional<AttributeValue> read_attribute(hid_t object, const std::string& name);

/// An integer, also one that is stored as a real. Nothing for text, fractions, NaN, and what int64 cannot hold.
std::optional<std::int64_t> whole_number(const AttributeValue& value);

/// Makes an attribute: text as UTF-8 of variable length, numbers as int64 and float64.
void write_attribute(hid_t object, const std::string& name, const AttributeValue& value);

/// Makes an attribute of integers, [values], as int64.
void write_attribute(hid_t object, const std::string& name, const std::vector<std::int64_t>& values);

/// Makes attributes. Throws ContentError for a name that is there already.
void write_attributes(hid_t object, const Attributes& attributes);

/// All attributes of an object: one text or number each, or several integers. Throws ContentError for others, and if
/// there are more than a thousand.
Attributes read_attributes(hid_t object);

/// Changes an integer attribute in place.
void change_attribute(hid_t object, const std::string& name, std::int64_t value);

/// For messages: text in quotation marks, numbers as they are.
std::string show(const AttributeValue& value);

}  // namespace bsbr::io
