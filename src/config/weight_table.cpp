// The one list of a model's weights: names, shapes, order and how they start.
#include "config/weight_table.hpp"

#include <charconv>
#include <cmath>
#include <utility>

#include "architectures/traits.hpp"

namespace bsbr {
namespace {

constexpr double none = 0;  // scale of weights that are not random

WeightInfo linear_weight(const std::string& name, std::int64_t out, std::int64_t in) {
  return {name + ".weight", {out, in}, Initialisation::uniform, 1 / std::sqrt(static_cast<double>(in))};
}

WeightInfo linear_bias(const std::string& name, std::int64_t out, std::int64_t in) {
  return {name + ".bias", {out}, Initialisation::uniform, 1 / std::sqrt(static_cast<double>(in))};
}

/// Linear layers of the same shape that are computed as one: all weights, then all biases, so that both are one block
/// of memory.
void add_fused(std::vector<WeightInfo>& table, const std::vector<std::string>& names, std::int64_t out,
               std::int64_t in) {
  for (const auto& name : names) table.push_back(linear_weight("attention." + name, out, in));
  for (const auto& name : names) table.push_back(linear_bias("attention." + name, out, in));
}

void add_norm(std::vector<WeightInfo>& table, const std::string& name, std::int64_t width) {
  table.push_back({name + ".weight", {width}, Initialisation::ones, none});
  table.push_back({name + ".bias", {width}, Initialisation::zeros, none});
}

WeightInfo embedding(const ModelConfig& config) {
  return {"embedding.weight", {config.vocab_size, config.hidden_dim}, Initialisation::normal, 1.0};
}

/// The final norm, and the head's own weight if it has one: nn.Linear(hidden_dim, vocab_size, bias=False).
std::vector<WeightInfo> final_table(const ModelConfig& config) {
  std::vector<WeightInfo> table;
  add_norm(table, "layer_norm", config.hidden_dim);
  if (config.head == Head::separate) table.push_back(linear_weight("lm_head", config.vocab_size, config.hidden_dim));
  return table;
}

/// The weights of one layer, without "layers.<i>.".
std::vector<WeightInfo> layer_table(const ModelConfig& config) {
  const auto hidden = config.hidden_dim, inner = config.attention_dim();
  std::vector<WeightInfo> table;
  const Traits& special = traits(config.architecture);
  add_fused(table, special.token_projections, inner, hidden);
  add_fused(table, special.chunk_projections, hidden, hidden);
  for (WeightInfo& weight : special.weights(config)) table.push_back(std::move(weight));
  add_linear(table, "attention.out_proj", hidden, inner);
  add_norm(table, "layer_norm1", hidden);
  add_norm(table, "layer_norm2", hidden);
  add_linear(table, "ff.0", config.ff_dim, hidden);
  add_linear(table, "ff.3", hidden, config.ff_dim);
  return table;
}

__int128 wide_size(const WeightInfo& weight) {
  __int128 size = 1;
  for (const auto extent : weight.shape) size *= extent;
  return size;
}

__int128 wide_size(const std::vector<WeightInfo>& table) {
  __int128 size = 0;
  for (const auto& weight : table) size += wide_size(weight);
  return size;
}

}  // namespace

std::int64_t WeightInfo::size() const { return static_cast<std::int64_t>(wide_size(*this)); }

void add_linear(std::vector<WeightInfo>& table, const std::string& name, std::int64_t out, std::int64_t in) {
  table.push_back(linear_weight(name, out, in));
  table.push_back(linear_bias(name, out, in));
}

std::vector<std::string> input_projections(Architecture architecture) { return traits(architecture).token_projections; }

WeightLayout::WeightLayout(const ModelConfig& config)
    : m_layers(config.num_layers),
      m_before{embedding(config)},
      m_layer(layer_table(config)),
      m_after(final_table(config)) {
  std::int64_t offset = 0;
  const auto place = [&](const std::vector<WeightInfo>& table, Places& places) {
    for (const WeightInfo& weight : table) {
      places[weight.name] = {offset, weight.shape[0], weight.shape.size() > 1 ? weight.shape[1] : 0};
      offset += weight.size();
    }
  };
  place(m_before, m_places);
  const std::int64_t first_layer = offset;
  place(m_layer, m_layer_places);
  m_layer_size = offset - first_layer;
  offset = first_layer + m_layers * m_layer_size;
  place(m_after, m_places);
}

std::optional<WeightPlace> WeightLayout::find(const std::string& name) const {
  constexpr std::string_view layers = "layers.";
  if (!name.starts_with(layers)) {
    const auto found = m_places.find(name);
    return found == m_places.end() ? std::nullopt : std::optional(found->second);
  }
  std::int64_t layer = -1;
  std::from_chars(name.data() + layers.size(), name.data() + name.size(), layer);
  const std::string prefix = layer_prefix(layer);
  if (layer < 0 || layer >= m_layers || !name.starts_with(prefix)) return std::nullopt;  // "layers.01." is none, either
  const auto found = m_layer_places.find(name.substr(prefix.size()));
  if (found == m_layer_places.end()) return std::nullopt;
  WeightPlace place = found->second;
  place.offset += layer * m_layer_size;
  return place;
}

std::int64_t WeightLayout::count() const {
  return static_cast<std::int64_t>(m_before.size() + m_after.size()) +
         m_layers * static_cast<std::int64_t>(m_layer.size());
}

std::vector<WeightInfo> weight_table(const ModelConfig& config) {
  std::vector<WeightInfo> table;
  WeightLayout(config).for_each([&](const WeightInfo& weight, std::int64_t) { table.push_back(weight); });
  return table;
}

__int128 wide_parameter_count(const ModelConfig& config) {
  return wide_size(embedding(config)) + config.num_layers * wide_size(layer_table(config)) +
         wide_size(final_table(config));
}

std::int64_t parameter_count(const ModelConfig& config) {
  return static_cast<std::int64_t>(wide_parameter_count(config));
}

}  // namespace bsbr
