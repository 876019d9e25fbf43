// Groups of datasets, one for each weight of a model: the weights, their gradients, what an optimiser keeps of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bsbr/config.hpp"
#include "bsbr/types.hpp"
#include "config/weight_table.hpp"
#include "io/dataset.hpp"
#include "io/output_file.hpp"

namespace bsbr::io {

/// What is in such a group.
struct WeightGroupKind {
  const char* path;      ///< of the group
  const char* elements;  ///< what they are, for messages
  bool may_be_negative;  ///< whether elements may be
};

inline constexpr WeightGroupKind model_weights{"/weights", "weights", true};

/// <group>/<name> for each weight, of elements in the order of weight_table(config).
template <class Real>
void write_weight_group(hid_t file, const std::string& group, const OutputFile& output, const ModelConfig& config,
                        const Array<Real*>& elements);

/// The same without elements: where those of each weight go in the file.
template <class Real>
std::vector<std::int64_t> create_weight_group(hid_t file, const std::string& group, const ModelConfig& config);

/// A group of a file that is read.
class WeightGroup {
 public:
  /// Looks at nothing yet. The file must outlive this.
  WeightGroup(const InputFile& file, const WeightGroupKind& kind, const ModelConfig& config)
      : m_file(&file), m_kind(kind), m_layout(config) {}

  /// Throws ContentError unless the group holds what the configuration calls for, and nothing else. Ends at the first
  /// weight that is missing, so a file cannot make this longer than it is by the layers that it claims.
  void check() const;

  /// `count` elements of a weight from that of index `first` on, row by row. Throws ContentError if the dataset is not
  /// what check() wants, and for elements that are not finite, or negative where that may not be.
  template <class Real>
  void read(const WeightInfo& weight, std::int64_t first, std::int64_t count, Real* target) const;

 private:
  std::string path_of(const WeightInfo& weight) const { return std::string(m_kind.path) + '/' + weight.name; }
  Dataset find(const WeightInfo& weight) const;
  std::string surplus() const;
  template <class Real>
  [[noreturn]] void refuse_number(const Dataset& dataset, std::int64_t index, Real value) const;

  const InputFile* m_file;
  WeightGroupKind m_kind;
  WeightLayout m_layout;
};

}  // namespace bsbr::io
