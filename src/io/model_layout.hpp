// What model files and checkpoints have alike: attributes of the root.
#pragma once

#include "bsbr/config.hpp"
#include "io/hdf5.hpp"

namespace bsbr::io {

/// Makes the attributes that say what the file is, and those of the configuration.
void write_model_attributes(hid_t file, const ModelConfig& config);

/// The configuration of a model file. Throws ContentError if the file is none, or in a format of another version;
/// ConfigError if the configuration is not valid.
ModelConfig read_model_attributes(hid_t file);

}  // namespace bsbr::io
