#include "io/config_attributes.hpp"

#include <cmath>
#include <type_traits>

#include "io/attributes.hpp"

namespace bsbr::io {
namespace {

[[noreturn]] void refuse(const Field& field, const AttributeValue& value, const std::string& rule,
                         const std::string& hint = {}) {
  throw ContentError("attribute " + std::string(field.name) + " is " + show(value) + ", " + rule, hint);
}

/// Ranges are validate()'s business; here a value becomes what its field can hold at all.
void assign(const Field& field, const AttributeValue& value, double& target) {
  if (const auto* number = std::get_if<std::int64_t>(&value))
    target = static_cast<double>(*number);
  else if (const auto* real = std::get_if<double>(&value))
    target = *real;
  else
    refuse(field, value, "which is not a number");
}

void assign(const Field& field, const AttributeValue& value, std::int64_t& target) {
  const auto number = whole_number(value);
  const auto* real = std::get_if<double>(&value);
  if (!number)
    refuse(field, value,
           real != nullptr && std::abs(*real) >= 0x1p63 ? "which is out of range" : "which is not a whole number");
  target = *number;
}

template <class Enumeration>
requires std::is_enum_v<Enumeration>
void assign(const Field& field, const AttributeValue& value, Enumeration& target) {
  const auto* name = std::get_if<std::string>(&value);
  const std::string known = "known are " + list_of_names<Enumeration>();
  if (name == nullptr) refuse(field, value, "which is not a name", known);
  const auto found = from_string<Enumeration>(*name);
  if (!found) refuse(field, value, "which this library does not know", known);
  target = *found;
}

template <class Value>
void read_field(hid_t object, const Field& field, Architecture architecture, Value& target) {
  const std::string name(field.name);
  const auto value = read_attribute(object, name);
  if (!field.belongs_to(architecture)) {
    if (!value) return;
    throw ContentError("attribute " + name + " belongs to " + field.names_of_owners() + ", the architecture is " +
                       std::string(to_string(architecture)));
  }
  if (value)
    assign(field, *value, target);
  else if (!field.may_be_missing)
    throw ContentError("attribute " + name + " is missing", name + ": " + std::string(field.help));
}

}  // namespace

ModelConfig read_config_attributes(hid_t object) {
  ModelConfig config;
  for_each_field(config,
                 [&](const Field& field, auto& value) { read_field(object, field, config.architecture, value); });
  config.validate();
  return config;
}

void write_config_attributes(hid_t object, const ModelConfig& config) {
  for_each_field(config, [&](const Field& field, const auto& value) {
    if (!field.belongs_to(config.architecture)) return;
    if constexpr (std::is_enum_v<std::remove_cvref_t<decltype(value)>>) {
      write_attribute(object, std::string(field.name), std::string(to_string(value)));
    } else {
      write_attribute(object, std::string(field.name), value);
    }
  });
}

}  // namespace bsbr::io
