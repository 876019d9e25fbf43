// Writes architectures.json: what the Python tools ask about architectures and fields of the configuration
// (docs/formats.md). The build runs it. Plain text, without a library for JSON: a build of the library alone need not
// have one.
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "architectures/traits.hpp"
#include "config/messages.hpp"

namespace bsbr {
namespace {

std::string_view to_string(Transfer transfer) {
  switch (transfer) {
    case Transfer::keys:
      return "keys";
    case Transfer::state:
      return "state";
    case Transfer::chunk_states:
      return "chunk_states";
  }
  throw ConfigError("a Transfer has no name");
}

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') result += '\\';
    result += letter;
  }
  return result + '"';
}

std::string text_of(bool value) { return value ? "true" : "false"; }

template <class Texts>
std::string list_of(const Texts& texts) {
  std::string list;
  for (const auto& text : texts) list += (list.empty() ? "" : ", ") + quoted(text);
  return "[" + list + "]";
}

/// The members of an object, one on each line.
class Members {
 public:
  explicit Members(std::string_view name) { add("name", quoted(name)); }

  void add(std::string_view name, const std::string& value) {
    m_text += (m_text.empty() ? "" : ",\n") + std::string("      ") + quoted(name) + ": " + value;
  }

  std::string text() const { return "    {\n" + m_text + "\n    }"; }

 private:
  std::string m_text;
};

std::string list_of(const std::vector<Members>& objects) {
  std::string list;
  for (const Members& object : objects) list += (list.empty() ? "" : ",\n") + object.text();
  return "[\n" + list + "\n  ]";
}

/// The name of the field that a pointer to a member points to; null if there is none.
std::string name_of(std::int64_t ModelConfig::*member) {
  std::string name = "null";
  const ModelConfig config;
  for_each_field(config, [&](const Field& field, const auto& value) {
    if constexpr (std::is_same_v<decltype(value), const std::int64_t&>) {
      if (member != nullptr && &value == &(config.*member)) name = quoted(field.name);
    }
  });
  return name;
}

/// A small model in which everything that is optional is switched on.
ModelConfig with_all_parts(Architecture architecture) {
  ModelConfig config{.architecture = architecture, .hidden_dim = 1, .num_heads = 1};
  for_each_field(config, [&](const Field& field, auto& value) {
    if constexpr (std::is_same_v<decltype(value), std::int64_t&>) {
      if (!field.is_shared() && value == 0) value = 1;
    }
  });
  return config;
}

Members describe(Architecture architecture) {
  const Traits& special = traits(architecture);
  const ModelConfig config = with_all_parts(architecture);
  std::vector<std::string> phases, own_weights;
  for (const auto& [phase, elements] : special.elements_per_token(config)) phases.push_back(phase);
  for (const WeightInfo& weight : special.weights(config)) own_weights.push_back(weight.name);

  Members members(bsbr::to_string(architecture));
  members.add("fields", list_of(special.fields));
  members.add("token_projections", list_of(special.token_projections));
  members.add("chunk_projections", list_of(special.chunk_projections));
  members.add("own_weights", list_of(own_weights));
  members.add("phases", list_of(phases));
  members.add("transfer", quoted(to_string(special.transfer)));
  members.add("window_field", name_of(special.window_field));
  members.add("width_factor", name_of(special.width_factor));
  members.add("has_one_head", text_of(special.has_one_head));
  members.add("depends_on_chunks", text_of(special.depends_on_chunks));
  return members;
}

/// A field of the configuration, with its default. Numbers have a range, names a list of choices.
template <class Value>
Members describe(const Field& field, const Value& value) {
  Members members(field.name);
  members.add("help", quoted(field.help));
  if constexpr (std::is_enum_v<Value>) {
    std::vector<std::string_view> choices;
    for (const auto& entry : names_of<Value>()) choices.push_back(entry.name);
    members.add("type", quoted("name"));
    members.add("default", quoted(bsbr::to_string(value)));
    members.add("choices", list_of(choices));
  } else {
    members.add("type", quoted(std::is_integral_v<Value> ? "integer" : "real"));
    members.add("default", show(value));
    members.add("least", show(static_cast<Value>(field.least)));
    members.add("most", show(static_cast<Value>(field.most)));
  }
  members.add("may_be_missing", text_of(field.may_be_missing));
  return members;
}

std::string json() {
  std::vector<Members> of_architectures, of_fields;
  for (const auto& entry : architectures) of_architectures.push_back(describe(entry.value));
  const ModelConfig config;
  for_each_field(config, [&](const Field& field, const auto& value) { of_fields.push_back(describe(field, value)); });
  return "{\n  \"format\": \"bsbr-architectures\",\n  \"format_version\": 1,\n  \"architectures\": " +
         list_of(of_architectures) + ",\n  \"fields\": " + list_of(of_fields) + "\n}\n";
}

}  // namespace
}  // namespace bsbr

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: bsbr_write_architectures FILE\n";
    return 2;
  }
  std::ofstream file(arguments[1]);
  file << bsbr::json() << std::flush;
  if (!file) std::cerr << "bsbr_write_architectures: error: " << arguments[1] << " cannot be written\n";
  return file ? 0 : 6;
}
