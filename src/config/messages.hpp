// How messages about configurations show values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bsbr {

std::string show(std::int64_t value);

/// The shortest text that gives the value back: a rule that is broken by little must not look kept.
std::string show(double value);

/// "hidden_dim = 512"
template <class Value>
std::string equation(std::string_view name, Value value) {
  return std::string(name) + " = " + show(value);
}

}  // namespace bsbr
