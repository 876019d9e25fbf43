#include "io/file_format.hpp"

#include <map>
#include <string>
#include <string_view>

#include "io/attributes.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

/// What other files of ours are.
std::string hint_for(const AttributeValue& value) {
  static const std::map<std::string_view, std::string> known{
      {"bsbr-model", "this is a model file"},
      {"bsbr-result", "this is a result that bsbr_forward has written"},
      {"bsbr-stream", "this is the state of a stream, which --state-out has written"}};
  const auto* name = std::get_if<std::string>(&value);
  const auto found = name == nullptr ? known.end() : known.find(*name);
  return found == known.end() ? "" : found->second;
}

}  // namespace

void write_format(hid_t file, const FileFormat& format) {
  write_attribute(file, "format", std::string(format.name));
  write_attribute(file, "format_version", format.version);
}

void check_format(hid_t file, const FileFormat& format) {
  const auto name = read_attribute(file, "format");
  if (!name) throw ContentError("has no attribute format = " + quoted(format.name) + ", so it is not " + format.what);
  if (*name != AttributeValue(std::string(format.name))) {
    throw ContentError("attribute format is " + show(*name) + ", " + format.what + " has " + quoted(format.name),
                       hint_for(*name));
  }
  const auto found = read_attribute(file, "format_version");
  if (!found) throw ContentError("attribute format_version is missing");
  const auto version = whole_number(*found);
  if (version == format.version) return;
  throw ContentError(
      "attribute format_version is " + show(*found) + ", this library reads version " + std::to_string(format.version),
      version > format.version ? "a newer version of bsbr has written the file" : "");
}

}  // namespace bsbr::io
