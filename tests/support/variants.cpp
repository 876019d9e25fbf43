// The variants: see variants.hpp.
#include "support/variants.hpp"

#include <algorithm>
#include <sstream>
#include <type_traits>

namespace bsbr::testing {
namespace {

/// One copy of the configuration for each of the values of a field.
template <class Value>
std::vector<ModelConfig> with_each(const ModelConfig& config, Value ModelConfig::*field, const std::vector<Value>& values) {
  std::vector<ModelConfig> all(values.size(), config);
  for (std::size_t i = 0; i < values.size(); ++i) all[i].*field = values[i];
  return all;
}

std::vector<ModelConfig> bsbr_variants(const ModelConfig& config) {
  const std::int64_t factor = config.compression_factor > 0 ? config.compression_factor : std::min<std::int64_t>(4, config.hidden_dim);
  std::vector<ModelConfig> all;
  for (const auto& causality : causalities) {
    for (ModelConfig& variant : with_each(config, &ModelConfig::compression_factor, {0, factor})) {
      variant.causality = causality.value;
      all.push_back(variant);
    }
  }
  return all;
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

std::vector<ModelConfig> variants_of(Architecture architecture, const ModelConfig& sizes) {
  ModelConfig config = sizes;
  config.architecture = architecture;
  switch (architecture) {  // without default: an architecture that is added is missed by the compiler
    case Architecture::bsbr:
      return bsbr_variants(config);
    case Architecture::standard:
      return {config};
    case Architecture::linear:
      return with_each(config, &ModelConfig::feature_map, {FeatureMap::none, FeatureMap::elu});
    case Architecture::delta_net:
      return with_each(config, &ModelConfig::beta, {0.9, 0.0, 2.0});
    case Architecture::sliding_window:
      return with_each(config, &ModelConfig::window_size, {std::int64_t{0}, small_window, endless_window});
    case Architecture::hopfield:
      return with_each(config, &ModelConfig::temperature, {0.5, 1.0});
    case Architecture::gau:
      config.num_heads = 1;
      return with_each<std::int64_t>(config, &ModelConfig::expansion_factor, {1, 2});
  }
  return {};
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
    if (field.owner == config.architecture) name += "_" + name_of(value);
  });
  return name;
}

std::string describe(const ModelConfig& config) {
  return variant_name(config) + ", D = " + std::to_string(config.hidden_dim) + ", " + std::to_string(config.num_heads) +
         " heads, chunks of " + std::to_string(config.chunk_size);
}

bool is_causal(const ModelConfig& config) { return config.architecture != Architecture::bsbr || config.causality == Causality::causal; }

bool heeds_padding(const ModelConfig& config) {
  return config.architecture != Architecture::bsbr || config.causality != Causality::reference;
}

bool depends_on_chunks(const ModelConfig& config) {
  return config.architecture == Architecture::bsbr || config.architecture == Architecture::gau;
}

bool has_its_own_way(const ModelConfig& config) {
  switch (config.architecture) {
    case Architecture::bsbr:
    case Architecture::standard:
    case Architecture::linear:
      return true;
    case Architecture::delta_net:
      return config.beta > 0 && config.beta < 2;
    case Architecture::sliding_window:
      return config.window_size < endless_window;  // that of standard
    case Architecture::hopfield:
      return config.temperature != 1;
    case Architecture::gau:
      return config.expansion_factor == 1;
  }
  return true;
}

}  // namespace bsbr::testing

namespace bsbr {

void PrintTo(const ModelConfig& config, std::ostream* out) { *out << testing::describe(config); }

}  // namespace bsbr
