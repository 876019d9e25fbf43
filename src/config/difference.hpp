// In what two configurations differ.
#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "bsbr/config.hpp"

namespace bsbr {

/// The first field in which `one` differs from `other`, for messages: "chunk_size is 16, not 32". Empty: they are the
/// same.
inline std::string difference(const ModelConfig& one, const ModelConfig& other) {
  using Value = std::variant<std::int64_t, double, std::string_view>;
  const auto values_of = [](const ModelConfig& config) {
    std::vector<Value> values;
    for_each_field(config, [&](const Field&, const auto& value) {
      if constexpr (std::is_enum_v<std::remove_cvref_t<decltype(value)>>)
        values.emplace_back(to_string(value));
      else
        values.emplace_back(value);
    });
    return values;
  };
  const std::vector<Value> ours = values_of(one), theirs = values_of(other);
  std::ostringstream text;
  const auto show = [&](const auto& value) { text << value; };
  std::size_t number = 0;
  for_each_field(one, [&](const Field& field, const auto&) {
    const std::size_t i = number++;
    if (!field.belongs_to(one.architecture) || ours[i] == theirs[i] || text.tellp() > 0) return;
    text << field.name << " is ";
    std::visit(show, ours[i]);
    text << ", not ";
    std::visit(show, theirs[i]);
  });
  return text.str();
}

}  // namespace bsbr
