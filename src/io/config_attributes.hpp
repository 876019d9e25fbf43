// A model's configuration as attributes of a file: which there must be, which there must not be, and what they may
// hold.
#pragma once

#include "bsbr/config.hpp"
#include "io/hdf5.hpp"

namespace bsbr::io {

/// The configuration in the attributes of `object`, validated. Throws ContentError or ConfigError.
ModelConfig read_config_attributes(hid_t object);

/// Writes the fields that the architecture has.
void write_config_attributes(hid_t object, const ModelConfig& config);

}  // namespace bsbr::io
