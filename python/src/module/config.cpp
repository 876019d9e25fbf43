// ModelConfig in Python: read only, checked when it is made; all of it follows from for_each_field.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "bsbr/error.hpp"
#include "module.hpp"

namespace bsbr::python {
namespace {

[[noreturn]] void refuse(const Field& field, nb::handle value, const std::string& rule, const std::string& hint = {}) {
  throw ConfigError(std::string(field.name) + " is " + nb::cast<std::string>(nb::repr(value)) + ", " + rule, hint);
}

/// Python's and NumPy's truth values are numbers to Python, but nobody means them as sizes. NumPy's type is "bool_"
/// before NumPy 2.
bool is_truth_value(nb::handle value) {
  const auto type = nb::cast<std::string>(value.type().attr("__name__"));
  return type == "bool" || type == "bool_";
}

/// The value as a double; nothing if it is no number.
std::optional<double> as_double(nb::handle value) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (PyErr_Occurred() == nullptr) return number;
  PyErr_Clear();
  return {};
}

/// Integers of Python, NumPy and others, and whole numbers stored as reals, as files may have them, too.
void assign(const Field& field, nb::handle value, std::int64_t& target) {
  if (is_truth_value(value)) refuse(field, value, "which is not a whole number");
  auto number = nb::steal(PyNumber_Index(value.ptr()));
  if (!number.is_valid()) {
    PyErr_Clear();
    const auto real = as_double(value);
    if (!real || !std::isfinite(*real) || std::trunc(*real) != *real)
      refuse(field, value, "which is not a whole number");
    number = nb::steal(PyLong_FromDouble(*real));
  }
  if (!nb::try_cast(number, target)) refuse(field, value, "which is out of range");
}

void assign(const Field& field, nb::handle value, double& target) {
  const auto real = is_truth_value(value) ? std::nullopt : as_double(value);
  if (!real) refuse(field, value, "which is not a number");
  target = *real;
}

template <class Enumeration>
requires std::is_enum_v<Enumeration>
void assign(const Field& field, nb::handle value, Enumeration& target) {
  const std::string known = "known are " + list_of_names<Enumeration>();
  std::string name;
  if (!nb::try_cast(value, name)) refuse(field, value, "which is not a name", known);
  const auto found = from_string<Enumeration>(name);
  if (!found) refuse(field, value, "which this library does not know", known);
  target = *found;
}

template <class Value>
nb::object to_python(const Value& value) {
  if constexpr (std::is_enum_v<Value>)
    return nb::cast(std::string(to_string(value)));
  else
    return nb::cast(value);
}

template <class Value>
std::string type_name() {
  return std::is_enum_v<Value> ? "str" : std::is_floating_point_v<Value> ? "float" : "int";
}

/// The fields that the architecture has.
nb::dict to_dict(const ModelConfig& config) {
  nb::dict fields;
  for_each_field(config, [&](const Field& field, const auto& value) {
    if (field.belongs_to(config.architecture)) fields[std::string(field.name).c_str()] = to_python(value);
  });
  return fields;
}

std::string repr(const ModelConfig& config) {
  std::string text;
  for (const auto& [name, value] : to_dict(config)) {
    text += (text.empty() ? "" : ", ") + nb::cast<std::string>(name) + "=" + nb::cast<std::string>(nb::repr(value));
  }
  return "ModelConfig(" + text + ")";
}

/// Whether names or shapes of a model's weights depend on a field.
bool weights_depend_on(const std::string& field, const ModelConfig& config) {
  static const std::set<std::string> always{"architecture", "vocab_size",    "hidden_dim",         "num_layers",
                                            "ff_dim",       "head",          "compression_factor", "expansion_factor",
                                            "null_chunk",   "retrieval_gate"};
  const bool by_head = config.compression_factor > 0 || config.null_chunk != 0 || config.retrieval_gate != 0;
  return always.contains(field) || (field == "num_heads" && by_head);
}

/// "def __init__(self, *, architecture: str = 'bsbr', …) -> None"
std::string signature() {
  std::string text = "def __init__(self, *";
  const ModelConfig defaults;
  for_each_field(defaults, [&]<class Value>(const Field& field, const Value& value) {
    text += ", " + std::string(field.name) + ": " + type_name<Value>() + " = " +
            nb::cast<std::string>(nb::repr(to_python(value)));
  });
  return text + ") -> None";
}

nb::dict weight_shapes(const ModelConfig& config) {
  nb::dict shapes;
  for (const WeightInfo& weight : weight_table(config)) shapes[weight.name.c_str()] = nb::tuple(nb::cast(weight.shape));
  return shapes;
}

}  // namespace

ModelConfig with_fields(ModelConfig config, const nb::dict& fields) {
  std::vector<std::string> known;
  for_each_field(config, [&](const Field& field, auto& value) {  // the architecture comes first
    const std::string& name = known.emplace_back(field.name);
    if (!fields.contains(name.c_str())) return;
    if (!field.belongs_to(config.architecture)) {
      throw ConfigError(name + " belongs to " + field.names_of_owners() + ", the architecture is " +
                        std::string(to_string(config.architecture)));
    }
    assign(field, fields[name.c_str()], value);
  });
  for (const auto& [key, value] : fields) {
    const auto name = nb::cast<std::string>(nb::str(key));
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw ConfigError("a configuration has no field " + name);
  }
  config.validate();
  return config;
}

void require_same_weights(const ModelConfig& stored, const ModelConfig& changed) {
  // Factors with the same quotient are the same model.
  const bool same_states = (stored.compression_factor > 0) == (changed.compression_factor > 0) &&
                           stored.state_size() == changed.state_size();
  const nb::dict before = to_dict(stored), after = to_dict(changed);
  std::string free;
  for (const auto& [key, value] : before) {
    const auto name = nb::cast<std::string>(key);
    if (!weights_depend_on(name, stored)) free += (free.empty() ? "" : ", ") + name;
  }
  for (const auto& [key, value] : before) {
    const auto name = nb::cast<std::string>(key);
    if (!weights_depend_on(name, stored) || (name == "compression_factor" && same_states) || value.equal(after[key]))
      continue;
    throw ConfigError(name + " is " + nb::cast<std::string>(nb::repr(after[key])) + ", the model file has " +
                          nb::cast<std::string>(nb::repr(value)) + ", and its weights depend on it",
                      "what can be changed is " + free);
  }
}

void add_config(nb::module_& module) {
  nb::class_<ModelConfig> type(
      module, "ModelConfig",
      "A model's architecture and sizes, immutable: replace() makes another one. Whole numbers may be of any integer "
      "type, or "
      "reals such as 8.0. Raises ConfigError, naming the field, its value and the rule, unless a model can be built.");
  type.def(
      "__init__",
      [](ModelConfig* self, const nb::kwargs& fields) {
        new (self) ModelConfig(with_fields({}, nb::borrow<nb::dict>(fields)));
      },
      nb::sig(signature().c_str()));
  type.def(
      "replace",
      [](const ModelConfig& self, const nb::kwargs& fields) { return with_fields(self, nb::borrow<nb::dict>(fields)); },
      nb::sig("def replace(self, **fields: str | int | float) -> ModelConfig"),
      "A configuration with other values of some fields.");
  type.def("to_dict", &to_dict, nb::sig("def to_dict(self) -> dict[str, str | int | float]"),
           "The fields that the architecture has.");
  type.def("weight_shapes", &weight_shapes, nb::sig("def weight_shapes(self) -> dict[str, tuple[int, ...]]"),
           "Names, as in PyTorch's state_dict, and shapes of a model's weights.");
  type.def("__repr__", &repr);
  type.def(
      "__eq__",
      [](const ModelConfig& self, nb::handle other) {
        return nb::isinstance<ModelConfig>(other) && to_dict(self).equal(to_dict(nb::cast<const ModelConfig&>(other)));
      },
      nb::arg("other").sig("object"), nb::sig("def __eq__(self, other: object) -> bool"));
  type.def("__getstate__", &to_dict, nb::sig("def __getstate__(self) -> dict[str, str | int | float]"));
  type.def(
      "__setstate__",
      [](ModelConfig& self, const nb::dict& fields) { new (&self) ModelConfig(with_fields({}, fields)); },
      nb::sig("def __setstate__(self, fields: dict[str, str | int | float]) -> None"));
  type.def("__hash__", [](const ModelConfig& self) { return nb::hash(nb::str(repr(self).c_str())); });
  const ModelConfig defaults;
  for_each_field(defaults, [&]<class Value>(const Field& field, const Value&) {
    const std::string name(field.name), help(field.help), getter = "def " + name + "(self) -> " + type_name<Value>();
    type.def_prop_ro(
        name.c_str(),
        [name](const ModelConfig& self) {
          nb::object found;
          for_each_field(self, [&](const Field& other, const auto& value) {
            if (other.name == name) found = to_python(value);
          });
          return found;
        },
        nb::sig(getter.c_str()), help.c_str());
  });
}

}  // namespace bsbr::python
