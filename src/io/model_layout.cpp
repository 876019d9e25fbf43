#include "io/model_layout.hpp"

#include "io/config_attributes.hpp"
#include "io/file_format.hpp"

namespace bsbr::io {
namespace {

constexpr FileFormat model_format{"bsbr-model", "a model file", 1};

}  // namespace

void write_model_attributes(hid_t file, const ModelConfig& config) {
  write_format(file, model_format);
  write_config_attributes(file, config);
}

ModelConfig read_model_attributes(hid_t file) {
  check_format(file, model_format);
  return read_config_attributes(file);
}

}  // namespace bsbr::io
