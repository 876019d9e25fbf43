#include "io/model_layout.hpp"

#include <string>

#include "io/attributes.hpp"
#include "io/config_attributes.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

constexpr const char* model_format = "bsbr-model";
constexpr std::int64_t format_version = 1;

void check_format(hid_t file) {
  const auto found = read_attribute(file, "format");
  if (!found)
    throw ContentError("has no attribute format = \"" + std::string(model_format) + "\", so it is not a model file");
  const auto* name = std::get_if<std::string>(&*found);
  if (name == nullptr || *name != model_format) {
    throw ContentError(
        "attribute format is " + show(*found) + ", a model file has " + quoted(model_format),
        name != nullptr && *name == "bsbr-result" ? "this is a result that bsbr_forward has written" : "");
  }
}

void check_version(hid_t file) {
  const auto found = read_attribute(file, "format_version");
  if (!found) throw ContentError("attribute format_version is missing");
  const auto version = whole_number(*found);
  if (version == format_version) return;
  throw ContentError(
      "attribute format_version is " + show(*found) + ", this library reads version " + std::to_string(format_version),
      version > format_version ? "a newer version of bsbr has written the file" : "");
}

}  // namespace

void write_model_attributes(hid_t file, const ModelConfig& config) {
  write_attribute(file, "format", std::string(model_format));
  write_attribute(file, "format_version", format_version);
  write_config_attributes(file, config);
}

ModelConfig read_model_attributes(hid_t file) {
  check_format(file);
  check_version(file);
  return read_config_attributes(file);
}

}  // namespace bsbr::io
