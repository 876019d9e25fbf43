// A group of datasets, one for each weight of a model: the weights, or their gradients.
#pragma once

#include <string>

#include "bsbr/config.hpp"
#include "bsbr/types.hpp"
#include "io/output_file.hpp"

namespace bsbr::io {

/// <group>/<name> for each weight, of elements in the order of weight_table(config).
template <class Real>
void write_weight_group(hid_t file, const std::string& group, const OutputFile& output, const ModelConfig& config,
                        const Array<Real*>& elements);

}  // namespace bsbr::io
