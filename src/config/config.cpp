// The rules that a configuration must obey. Every message names the field, its value and the rule.
#include "bsbr/config.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <type_traits>

#include "bsbr/error.hpp"
#include "config/weight_table.hpp"

namespace bsbr {
namespace {

/// More than any machine holds, and few enough that no size of theirs in bytes overflows 64 bits.
constexpr std::int64_t most_parameters = std::int64_t{1} << 45;

std::string show(std::int64_t value) { return std::to_string(value); }

/// The shortest text that gives the value back: a rule that is broken by little must not look kept.
std::string show(double value) {
  if (std::isnan(value)) return "nan";  // never "-nan"
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

/// A limit, which nobody must be able to tell from its neighbours.
std::string show_limit(double limit) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.6g", limit);
  return text.data();
}
std::string show_limit(std::int64_t limit) { return show(limit); }

std::string show(__int128 positive) {
  std::string digits;
  for (; positive > 0; positive /= 10) digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(positive % 10)));
  return digits.empty() ? "0" : digits;
}

template <class Value>
std::string equation(std::string_view name, Value value) {
  return std::string(name) + " = " + show(value);
}

template <class Number>
void check_range(const Field& field, Number value) {
  if constexpr (std::is_floating_point_v<Number>) {
    if (std::isnan(value)) throw ConfigError(equation(field.name, value) + " is not a number");
  }
  const auto least = static_cast<Number>(field.least), most = static_cast<Number>(field.most);
  if (value < least) throw ConfigError(equation(field.name, value) + " is below " + show_limit(least));
  if (value > most) throw ConfigError(equation(field.name, value) + " is above " + show_limit(most));
}

/// An enumeration can hold a value that has no name only by a cast.
template <class Enumeration>
void check_name(const Field& field, Enumeration value) {
  for (const auto& entry : names_of<Enumeration>()) {
    if (entry.value == value) return;
  }
  throw ConfigError(equation(field.name, static_cast<std::int64_t>(value)) + " is none of " + list_of_names<Enumeration>());
}

/// "hidden_dim = 512 can have 4 or 8 heads": the divisors next to the number that was asked for.
std::string suggest_heads(std::int64_t hidden_dim, std::int64_t num_heads) {
  std::int64_t below = 1, above = hidden_dim;
  const auto consider = [&](std::int64_t divisor) {
    if (divisor < num_heads) below = std::max(below, divisor);
    if (divisor > num_heads) above = std::min(above, divisor);
  };
  for (std::int64_t divisor = 1; divisor * divisor <= hidden_dim; ++divisor) {
    if (hidden_dim % divisor != 0) continue;
    consider(divisor);
    consider(hidden_dim / divisor);
  }
  const bool between = num_heads < hidden_dim && below < above;
  return equation("hidden_dim", hidden_dim) + " can have " + (between ? show(below) + " or " + show(above) : show(hidden_dim)) + " heads";
}

void check_heads(const ModelConfig& config) {
  if (config.architecture == Architecture::gau && config.num_heads != 1) {
    throw ConfigError(equation("num_heads", config.num_heads) + " is not 1, and gau has one head",
                      "the width of that head is hidden_dim times expansion_factor");
  }
  if (config.hidden_dim % config.num_heads != 0) {
    throw ConfigError(equation("num_heads", config.num_heads) + " does not divide " + equation("hidden_dim", config.hidden_dim),
                      suggest_heads(config.hidden_dim, config.num_heads));
  }
}

void check_compression(const ModelConfig& config) {
  if (config.architecture != Architecture::bsbr || config.compression_factor <= config.hidden_dim) return;
  throw ConfigError(equation("compression_factor", config.compression_factor) + " is above " + equation("hidden_dim", config.hidden_dim),
                    "states are compressed to hidden_dim / compression_factor numbers; 0 does not compress");
}

void check_expansion(const ModelConfig& config) {
  if (config.architecture != Architecture::gau) return;
  if (config.attention_dim() <= static_cast<std::int64_t>(largest_size)) return;  // at most 2^20 · 2^30: no overflow
  throw ConfigError(equation("expansion_factor", config.expansion_factor) + " times " + equation("hidden_dim", config.hidden_dim) +
                    " is above " + show(static_cast<std::int64_t>(largest_size)));
}

void check_parameters(const ModelConfig& config) {
  const __int128 parameters = wide_parameter_count(config);
  if (parameters <= most_parameters) return;
  throw ConfigError("the configuration calls for " + show(parameters) + " parameters, more than " + show(most_parameters),
                    "vocab_size, hidden_dim, ff_dim and num_layers decide how many there are");
}

}  // namespace

void ModelConfig::validate() const {
  for_each_field(*this, [this](const Field& field, const auto& value) {
    if (!field.belongs_to(architecture)) return;
    if constexpr (std::is_enum_v<std::remove_cvref_t<decltype(value)>>)
      check_name(field, value);
    else
      check_range(field, value);
  });
  check_heads(*this);
  check_compression(*this);
  check_expansion(*this);
  check_parameters(*this);
}

std::string ModelConfig::warning() const {
  const std::int64_t whole = head_dim() * head_dim();
  if (architecture != Architecture::bsbr || compression_factor == 0 || state_size() <= whole) return "";
  return equation("compression_factor", compression_factor) + " expands states: " + show(state_size()) + " numbers instead of " +
         show(whole);
}

}  // namespace bsbr
