// JSON as the programs write it.
#include "json_output.hpp"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bsbr/error.hpp"

namespace bsbr::apps {

void add_fields(nlohmann::ordered_json& json, const ModelConfig& config, const std::function<bool(const Field&)>& wanted) {
  for_each_field(config, [&](const Field& field, const auto& value) {
    if (!wanted(field)) return;
    if constexpr (std::is_enum_v<std::remove_cvref_t<decltype(value)>>)
      json[std::string(field.name)] = std::string(to_string(value));
    else
      json[std::string(field.name)] = value;
  });
}

std::string dump(const nlohmann::ordered_json& json) { return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"; }

void write_json(const std::string& path, const nlohmann::ordered_json& json) {
  // A device or a pipe is written to; a file is replaced when the new one is whole.
  std::error_code error;
  const bool special = std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error);
  const std::string written = special ? path : path + ".part";
  std::ofstream file(written);
  file << dump(json);
  file.close();
  error.clear();
  if (file && !special) std::filesystem::rename(written, path, error);
  if (file && !error) return;
  const std::string reason = error ? ": " + error.message() : "";
  if (!special) std::filesystem::remove(written, error);
  throw OutputError(path + ": the summary cannot be written" + reason);
}

}  // namespace bsbr::apps
