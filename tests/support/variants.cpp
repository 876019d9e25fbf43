// The variants: see variants.hpp.
#include "support/variants.hpp"

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <type_traits>

#include "architectures/traits.hpp"

namespace bsbr::testing {
namespace {

/// Values that tests give to a field that not all architectures have.
template <class Value>
std::vector<Value> values_of(const Field& field, [[maybe_unused]] const ModelConfig& sizes) {
  if constexpr (std::is_enum_v<Value>) {
    std::vector<Value> all;
    for (const auto& entry : names_of<Value>()) all.push_back(entry.value);
    return all;
  } else if constexpr (std::is_same_v<Value, double>) {
    if (field.name == "beta") return {0.9, 0.0, 2.0};
    if (field.name == "temperature") return {0.5, 1.0};
  } else {
    const std::int64_t factor =
        sizes.compression_factor > 0 ? sizes.compression_factor : std::min<std::int64_t>(4, sizes.hidden_dim);
    if (field.name == "compression_factor") return {0, factor};
    if (field.name == "window_size") return {0, small_window, endless_window};
    if (field.name == "expansion_factor") return {1, 2};
  }
  throw std::logic_error("no values for tests of " + std::string(field.name));
}

/// The configuration with another value of one field.
template <class Value>
ModelConfig with(ModelConfig config, const Field& field, const Value& value) {
  for_each_field(config, [&](const Field& other, auto& target) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(target)>, Value>) {
      if (other.name == field.name) target = value;
    }
  });
  return config;
}

/// "0_9" of 0.9, "block_causal" of an enumeration's value.
template <class Value>
std::string name_of(const Value& value) {
  std::ostringstream text;
  if constexpr (std::is_enum_v<Value>) {
    text << to_string(value);
  } else {
    text << value;
  }
  std::string name = text.str();
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

}  // namespace

namespace {

/// The options of a configuration that let a model learn to retrieve: their defaults change nothing, and a file may
/// lack them.
bool lets_learn(const Field& field) { return !field.is_shared() && field.may_be_missing; }

/// The field's default.
template <class Value>
Value default_of(const Field& field, Value value) {
  const ModelConfig standard;
  for_each_field(standard, [&](const Field& other, const auto& found) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(found)>, Value>) {
      if (other.name == field.name) value = found;
    }
  });
  return value;
}

/// Whether an architecture has any.
bool learns(Architecture architecture) {
  bool found = false;
  const ModelConfig any;
  for_each_field(any, [&](const Field& field, const auto&) {
    found = found || (lets_learn(field) && field.belongs_to(architecture));
  });
  return found;
}

/// The configuration with all of these options on.
ModelConfig with_options_that_let_learn(ModelConfig config) {
  for_each_field(config, [&]<class Value>(const Field& field, Value& value) {
    if (!lets_learn(field) || !field.belongs_to(config.architecture)) return;
    if constexpr (std::is_enum_v<Value>) {
      value = names_of<Value>().back().value;
    } else {
      value = 1;
    }
  });
  return config;
}

}  // namespace

std::vector<ModelConfig> variants_of(Architecture architecture, const ModelConfig& sizes) {
  ModelConfig config = sizes;
  config.architecture = architecture;
  if (traits(architecture).has_one_head) config.num_heads = 1;
  std::vector<ModelConfig> all{config};
  for_each_field(config, [&]<class Value>(const Field& field, const Value&) {
    if (field.is_shared() || lets_learn(field) || !field.belongs_to(architecture)) return;
    std::vector<ModelConfig> more;
    for (const ModelConfig& variant : all) {
      for (const auto& value : values_of<Value>(field, sizes)) more.push_back(with(variant, field, value));
    }
    all = more;
  });
  const std::size_t published = all.size();
  for (std::size_t i = 0; i < published && learns(architecture); ++i)
    all.push_back(with_options_that_let_learn(all[i]));
  return all;
}

std::vector<ModelConfig> variants(const ModelConfig& sizes) {
  return variants(sizes, [](const ModelConfig&) { return true; });
}

std::vector<ModelConfig> variants(const ModelConfig& sizes, const std::function<bool(const ModelConfig&)>& holds) {
  std::vector<ModelConfig> all;
  for (const auto& architecture : architectures) {
    for (const ModelConfig& config : variants_of(architecture.value, sizes)) {
      if (holds(config)) all.push_back(config);
    }
  }
  return all;
}

std::string variant_name(const ModelConfig& config) {
  std::string name(to_string(config.architecture));
  for_each_field(config, [&](const Field& field, const auto& value) {
    if (field.is_shared() || !field.belongs_to(config.architecture)) return;
    if (!lets_learn(field)) {
      name += "_" + name_of(value);
    } else if (value != default_of(field, value)) {
      name += "_" + std::string(field.name);
    }
  });
  return name;
}

std::string describe(const ModelConfig& config) {
  return variant_name(config) + ", D = " + std::to_string(config.hidden_dim) + ", " + std::to_string(config.num_heads) +
         " heads, chunks of " + std::to_string(config.chunk_size);
}

bool is_causal(const ModelConfig& config) { return traits(config.architecture).is_causal(config); }

bool heeds_padding(const ModelConfig& config) { return traits(config.architecture).heeds_padding(config); }

bool depends_on_chunks(const ModelConfig& config) { return traits(config.architecture).depends_on_chunks; }

bool has_its_own_way(const ModelConfig& config) {
  const auto has = [&](std::string_view field) { return has_field(config.architecture, field); };
  if (has("beta") && (config.beta <= 0 || config.beta >= 2)) return false;
  if (has("window_size") && config.window_size >= endless_window) return false;  // that of standard
  if (has("temperature") && config.temperature == 1) return false;
  return !has("expansion_factor") || config.expansion_factor == 1;
}

}  // namespace bsbr::testing

namespace bsbr {

void PrintTo(const ModelConfig& config, std::ostream* out) { *out << testing::describe(config); }

}  // namespace bsbr
