// Environment variables that switch something on or off.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "bsbr/error.hpp"

namespace bsbr {

/// What `variable` says: on or off, or nothing where it is not set. Throws ConfigError for another value.
inline std::optional<bool> environment_switch(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  const std::string value = text;
  if (value == "on" || value == "off") return value == "on";
  throw ConfigError(std::string(variable) + " = '" + value + "' is neither on nor off");
}

}  // namespace bsbr
