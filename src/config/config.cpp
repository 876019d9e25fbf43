// The rules that a configuration must obey. Every message names the field, its value and the rule.
#include "bsbr/config.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <type_traits>

#include "architectures/traits.hpp"
#include "bsbr/error.hpp"
#include "config/messages.hpp"
#include "config/weight_table.hpp"

namespace bsbr {
namespace {

/// More than any machine holds, and few enough that no size of theirs in bytes overflows 64 bits.
constexpr std::int64_t most_parameters = std::int64_t{1} << 45;

/// A limit, which nobody must be able to tell from its neighbours.
std::string show_limit(double limit) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.6g", limit);
  return text.data();
}
std::string show_limit(std::int64_t limit) { return show(limit); }

std::string show(__int128 positive) {
  std::string digits;
  for (; positive > 0; positive /= 10)
    digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(positive % 10)));
  return digits.empty() ? "0" : digits;
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
  throw ConfigError(equation(field.name, static_cast<std::int64_t>(value)) + " is none of " +
                    list_of_names<Enumeration>());
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
  return equation("hidden_dim", hidden_dim) + " can have " +
         (between ? show(below) + " or " + show(above) : show(hidden_dim)) + " heads";
}

void check_heads(const ModelConfig& config) {
  if (traits(config.architecture).has_one_head && config.num_heads != 1) {
    throw ConfigError(equation("num_heads", config.num_heads) + " is not 1, and " +
                          std::string(to_string(config.architecture)) + " has one head",
                      "the width of that head is hidden_dim times expansion_factor");
  }
  if (config.hidden_dim % config.num_heads != 0) {
    throw ConfigError(
        equation("num_heads", config.num_heads) + " does not divide " + equation("hidden_dim", config.hidden_dim),
        suggest_heads(config.hidden_dim, config.num_heads));
  }
}

void check_parameters(const ModelConfig& config) {
  const __int128 parameters = wide_parameter_count(config);
  if (parameters <= most_parameters) return;
  throw ConfigError(
      "the configuration calls for " + show(parameters) + " parameters, more than " + show(most_parameters),
      "vocab_size, hidden_dim, ff_dim and num_layers decide how many there are");
}

}  // namespace

std::string show(std::int64_t value) { return std::to_string(value); }

std::string show(double value) {
  if (std::isnan(value)) return "nan";  // never "-nan"
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

void ModelConfig::validate() const {
  for_each_field(*this, [this](const Field& field, const auto& value) {
    if (!field.belongs_to(architecture)) return;
    if constexpr (std::is_enum_v<std::remove_cvref_t<decltype(value)>>)
      check_name(field, value);
    else
      check_range(field, value);
  });
  check_heads(*this);
  traits(architecture).validate(*this);
  check_parameters(*this);
}

std::string ModelConfig::warning() const { return traits(architecture).warning(*this); }

std::int64_t ModelConfig::attention_dim() const { return traits(architecture).width(*this); }

bool Field::belongs_to(Architecture architecture) const { return is_shared() || has_field(architecture, name); }

std::vector<Architecture> Field::owners() const {
  std::vector<Architecture> all;
  for (const auto& entry : architectures) {
    if (has_field(entry.value, name)) all.push_back(entry.value);
  }
  return all;
}

std::string Field::names_of_owners() const {
  std::string names;
  for (const Architecture owner : owners()) names += (names.empty() ? "" : ", ") + std::string(to_string(owner));
  return names;
}

}  // namespace bsbr
