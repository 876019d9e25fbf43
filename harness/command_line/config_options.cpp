// Options for the fields of a configuration, made from the one list of fields.
#include "harness/command_line/config_options.hpp"

#include <algorithm>

#include "architectures/traits.hpp"
#include "harness/format.hpp"

namespace bsbr::harness {
namespace {

/// "chunk_size" as an option: "--chunk-size".
std::string option_of(const Field& field) {
  std::string name = "--" + std::string(field.name);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string help_of(const Field& field, const std::string& standard) {
  const std::string owner = field.is_shared() ? "" : field.names_of_owners() + ": ";
  return owner + std::string(field.help) + " (default " + standard + ")";
}

template <class Value>
void add_field(CommandLine& line, const Field& field, Value& value) {
  const std::string option = option_of(field);
  if constexpr (std::is_enum_v<Value>) {
    line.add_choice<Value>(option, help_of(field, std::string(to_string(value))), value);
  } else if constexpr (std::is_same_v<Value, double>) {
    line.add(option, "X", help_of(field, show_number("%g", value)),
             [&value, field](const std::string& name, const std::string& text) {
               value = number(name, text, field.least, field.most);
             });
  } else {
    line.add_number(option, help_of(field, std::to_string(value)), value, field.least, field.most);
  }
}

}  // namespace

void add_config_options(CommandLine& line, ModelConfig& config) {
  for_each_field(config, [&](const Field& field, auto& value) {
    if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(value)>, Architecture>) add_field(line, field, value);
  });
}

void refuse_foreign_options(const CommandLine& line, const std::vector<Architecture>& selected) {
  std::string names;
  for (const Architecture architecture : selected)
    names += (names.empty() ? "" : ", ") + std::string(to_string(architecture));
  const ModelConfig any;
  for_each_field(any, [&](const Field& field, const auto&) {
    const auto has_field = [&](Architecture architecture) { return field.belongs_to(architecture); };
    if (std::any_of(selected.begin(), selected.end(), has_field) || !line.given(option_of(field))) return;
    throw UsageError(option_of(field) + ": only for " + field.names_of_owners() + ", not for " + names);
  });
}

ModelConfig config_for(Architecture architecture, ModelConfig config) {
  config.architecture = architecture;
  if (traits(architecture).has_one_head) config.num_heads = 1;
  require_valid(config);
  return config;
}

void require_valid(const ModelConfig& config) {
  try {
    config.validate();
  } catch (const ConfigError& error) {
    throw UsageError(error.what(), error.hint());
  }
}

}  // namespace bsbr::harness
