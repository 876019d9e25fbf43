// How options that are numbers are checked.
#pragma once

#include <cmath>
#include <string>
#include <string_view>

#include "bsbr/error.hpp"
#include "config/messages.hpp"

namespace bsbr {

/// Throws ConfigError, "beta1 = 1 is not below 1", unless the value is a finite number that keeps the rule.
template <class Number>
void require_number(bool keeps_rule, std::string_view name, Number value, const std::string& broken,
                    const std::string& hint) {
  if (!std::isfinite(static_cast<double>(value)))
    throw ConfigError(equation(name, value) + " is not a finite number", hint);
  if (!keeps_rule) throw ConfigError(equation(name, value) + " is " + broken, hint);
}

}  // namespace bsbr
