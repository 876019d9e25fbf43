// Which of a model's weights have their gradients summed together, in one array: those that are formed together.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/config.hpp"

namespace bsbr {

/// Some of the model's weights: where they begin among all of them, and how many elements they have.
struct WeightRange {
  std::int64_t offset, elements;
};

/// Ranges one after the other.
class GradientPart {
 public:
  explicit GradientPart(std::vector<WeightRange> ranges);

  std::int64_t elements() const { return m_elements; }
  const std::vector<WeightRange>& ranges() const { return m_ranges; }

  /// Where in the part the weight begins that begins at `offset` among all. Throws Error if it is not in it.
  std::int64_t place(std::int64_t offset) const;

  /// The ranges of the part's elements [begin, end).
  std::vector<WeightRange> ranges_of(std::int64_t begin, std::int64_t end) const;

 private:
  std::vector<WeightRange> m_ranges;
  std::int64_t m_elements = 0;
};

enum class PartKind {
  norm,       // the final norm
  head,       // the head's matrix: of a tied one its part in the gradient of the embedding
  embedding,  // what the tokens' embedding gives
  attention,  // of a layer: its projections, before out_proj, and the norm before them
  rest        // of a layer: all others
};
inline constexpr std::size_t part_kinds = 5;

struct PartOfModel {
  PartKind kind;
  std::int64_t layer = 0;
};

/// The weights of a part. The configuration is valid, and has a head where that is asked for.
GradientPart gradient_part(const ModelConfig& config, PartOfModel part);

}  // namespace bsbr
