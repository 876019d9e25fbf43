// JSON as the programs write it.
#include "report/json_output.hpp"

#include <nlohmann/json.hpp>

#include "io/text_file.hpp"

namespace bsbr::apps {

void add_fields(nlohmann::ordered_json& json, const ModelConfig& config,
                const std::function<bool(const Field&)>& wanted) {
  for_each_field(config, [&](const Field& field, const auto& value) {
    if (!wanted(field)) return;
    if constexpr (std::is_enum_v<std::remove_cvref_t<decltype(value)>>)
      json[std::string(field.name)] = std::string(to_string(value));
    else
      json[std::string(field.name)] = value;
  });
}

void add_loss(nlohmann::ordered_json& json, const MeanLoss& mean) {
  json["loss"] = mean.loss;
  json["bits_per_token"] = mean.bits_per_token();
  json["perplexity"] = mean.perplexity();
  json["counted"] = mean.counted;
}

std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void write_json(const std::string& path, const nlohmann::ordered_json& json) { io::write_text_file(path, dump(json)); }

}  // namespace bsbr::apps
