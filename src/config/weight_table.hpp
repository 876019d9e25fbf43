// The order of a model's weights, without a list of them that grows with the layers; and what validate() needs of it
// before it can trust the sizes: their sum in 128 bits.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bsbr/config.hpp"

namespace bsbr {

/// Where a weight lies among all weights of a model.
struct WeightPlace {
  std::int64_t offset, rows, columns;  // columns = 0: a vector
};

/// The weights of a model, one after the other in the order of weight_table(config). All layers have the same table,
/// which is held once: a model may have 65,536 layers of a few elements each.
class WeightLayout {
 public:
  /// The configuration must be valid.
  explicit WeightLayout(const ModelConfig& config);

  /// Where the weight of that name lies, if the model has one.
  std::optional<WeightPlace> find(const std::string& name) const;

  /// Calls visit(const WeightInfo&, offset) for every weight, in order.
  template <class Visit>
  void for_each(const Visit& visit) const {
    std::int64_t offset = 0;
    const auto visit_table = [&](const std::string& prefix, const std::vector<WeightInfo>& table) {
      for (WeightInfo weight : table) {
        weight.name.insert(0, prefix);
        visit(weight, offset);
        offset += weight.size();
      }
    };
    visit_table("", m_before);
    for (std::int64_t layer = 0; layer < m_layers; ++layer) visit_table(layer_prefix(layer), m_layer);
    visit_table("", m_after);
  }

  /// How many weights there are.
  std::int64_t count() const;

  /// What the names of a layer's weights begin with: "layers.3."
  static std::string layer_prefix(std::int64_t layer) { return "layers." + std::to_string(layer) + "."; }

 private:
  using Places = std::unordered_map<std::string, WeightPlace>;

  std::int64_t m_layers, m_layer_size = 0;
  std::vector<WeightInfo> m_before, m_layer, m_after;  // of a layer without the prefix
  Places m_places, m_layer_places;  // of a layer those of the first, by their names without the prefix
};

/// Weight and bias of a linear layer: [out, in] and [out], uniform within ±1/√in as in PyTorch.
void add_linear(std::vector<WeightInfo>& table, const std::string& name, std::int64_t out, std::int64_t in);

/// parameter_count without overflow, for any configuration whose fields are within their ranges.
__int128 wide_parameter_count(const ModelConfig& config);

}  // namespace bsbr
