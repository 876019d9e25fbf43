#include "model/gradient_parts.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "bsbr/error.hpp"
#include "config/weight_table.hpp"

namespace bsbr {

GradientPart::GradientPart(std::vector<WeightRange> ranges) : m_ranges(std::move(ranges)) {
  for (const WeightRange& range : m_ranges) m_elements += range.elements;
}

std::int64_t GradientPart::place(std::int64_t offset) const {
  std::int64_t before = 0;
  for (const WeightRange& range : m_ranges) {
    if (offset >= range.offset && offset < range.offset + range.elements) return before + offset - range.offset;
    before += range.elements;
  }
  throw Error("a part of a model's gradient lacks the weight at " + std::to_string(offset));
}

std::vector<WeightRange> GradientPart::ranges_of(std::int64_t begin, std::int64_t end) const {
  std::vector<WeightRange> some;
  std::int64_t before = 0;
  for (const WeightRange& range : m_ranges) {
    const std::int64_t first = std::max(begin, before), last = std::min(end, before + range.elements);
    if (first < last) some.push_back({range.offset + first - before, last - first});
    before += range.elements;
  }
  return some;
}

GradientPart gradient_part(const ModelConfig& config, PartOfModel part) {
  const WeightLayout layout(config);
  const std::string layer = WeightLayout::layer_prefix(part.layer);
  const auto offset = [&](const std::string& name) { return layout.find(name).value().offset; };
  // The weights from one on up to another, which does not belong to them.
  const auto from_to = [&](const std::string& first, const std::string& last) -> WeightRange {
    return {offset(first), offset(last) - offset(first)};
  };
  const std::string norm1 = layer + "layer_norm1.weight", norm2 = layer + "layer_norm2.weight",
                    out = layer + "attention.out_proj.weight", last = layer + "ff.3.bias";
  const std::int64_t table = config.vocab_size * config.hidden_dim;
  switch (part.kind) {
    case PartKind::norm:
      return GradientPart({{offset("layer_norm.weight"), 2 * config.hidden_dim}});
    case PartKind::head:
      return GradientPart({{offset(config.head == Head::tied ? "embedding.weight" : "lm_head.weight"), table}});
    case PartKind::embedding:
      return GradientPart({{offset("embedding.weight"), table}});
    case PartKind::attention:
      return GradientPart(
          {from_to(layer + "attention." + input_projections(config.architecture).front() + ".weight", out),
           from_to(norm1, norm2)});
    case PartKind::rest:
      break;
  }
  WeightRange behind = from_to(norm2, last);
  behind.elements += config.hidden_dim;
  return GradientPart({from_to(out, norm1), behind});
}

}  // namespace bsbr
