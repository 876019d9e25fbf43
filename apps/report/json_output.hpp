// JSON as the programs write it.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bsbr/config.hpp"
#include "bsbr/loss.hpp"

namespace bsbr::apps {

/// Adds the fields of a configuration that are `wanted`, enumerations by their names.
void add_fields(nlohmann::ordered_json& json, const ModelConfig& config,
                const std::function<bool(const Field&)>& wanted);

/// Adds loss, bits_per_token, perplexity and counted. What is not finite becomes null.
void add_loss(nlohmann::ordered_json& json, const MeanLoss& mean);

/// JSON as text; bytes of names that are not UTF-8 are replaced.
std::string dump(const nlohmann::ordered_json& json);

/// Writes a JSON file, whole or not at all. Throws OutputError.
void write_json(const std::string& path, const nlohmann::ordered_json& json);

}  // namespace bsbr::apps
