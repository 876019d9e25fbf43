// What bsbr_compare has found, as text and as JSON.
#include "comparison.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "format.hpp"
#include "json_output.hpp"
#include "power_law.hpp"
#include "table.hpp"

namespace bsbr::apps {
namespace {

std::string name_of(Architecture architecture) { return std::string(to_string(architecture)); }

double tokens_per_second(const Comparison& comparison, const CaseResult& result) {
  return static_cast<double>(comparison.options.batch) * static_cast<double>(result.seq_length) / result.measurement.seconds;
}

double flops(const Comparison& comparison, const CaseResult& result) {
  return forward_flops(result.config, comparison.options.batch, result.seq_length);
}

/// How one architecture grows with the length.
struct Fit {
  Architecture architecture{};
  std::int64_t points = 0;
  std::optional<PowerLaw> time, memory;
};

Fit fit(const Comparison& comparison, Architecture architecture) {
  std::vector<double> lengths, seconds, bytes;
  for (const CaseResult& result : comparison.results) {
    if (result.config.architecture != architecture) continue;
    lengths.push_back(static_cast<double>(result.seq_length));
    seconds.push_back(result.measurement.seconds);
    bytes.push_back(static_cast<double>(result.memory_bytes));
  }
  return {architecture, static_cast<std::int64_t>(lengths.size()), fit_power_law(lengths, seconds), fit_power_law(lengths, bytes)};
}

// ---- Text: at most 100 columns

std::string head(const Comparison& comparison) {
  const CompareOptions& options = comparison.options;
  const ModelConfig& config = options.config;
  std::string notes;
  for (const ModelConfig& own : options.configs) {
    if (!own.warning().empty()) notes += row("note", own.warning());
  }
  return row("models", show_several(config.num_layers, "layer") + " of width " + std::to_string(config.hidden_dim) + ", " +
                           show_several(config.num_heads, "head") + ", feed-forward of " + std::to_string(config.ff_dim) + ", chunks of " +
                           std::to_string(config.chunk_size)) +
         notes + row("ran on", describe(comparison.environment, options.precision)) + environment_rows(comparison.environment) +
         row("timed", "median of " + show_several(options.repeat, "forward") + " of " + show_several(options.batch, "sequence") +
                          ", after one that is not timed");
}

std::string results_table(const Comparison& comparison) {
  Table table({{"architecture", 16, Table::Align::left},
               {"length", 10},
               {"parameters", 15},
               {"time", 9},
               {"tokens/s", 11},
               {"speed", 14},
               {"memory", 11},
               {"resident", 11}});
  for (const CaseResult& result : comparison.results) {
    const double seconds = result.measurement.seconds, rate = tokens_per_second(comparison, result);
    table.add({name_of(result.config.architecture), show_count(result.seq_length), show_count(parameter_count(result.config)),
               show_seconds(seconds), show_count(std::llround(rate)), show_rate(flops(comparison, result) / seconds),
               show_bytes(result.memory_bytes), show_bytes(result.resident_bytes)});
  }
  return table.empty() ? "" : "\n" + table.text();
}

std::string exponent_of(const std::optional<PowerLaw>& law) { return law ? show_number("L^%.2f", law->exponent) : "-"; }
std::string r_squared_of(const std::optional<PowerLaw>& law) { return law ? show_number("%.4f", law->r_squared) : "-"; }

std::string fits_table(const Comparison& comparison) {
  Table table({{"growth", 16, Table::Align::left}, {"lengths", 10}, {"time", 10}, {"R^2", 9}, {"memory", 10}, {"R^2", 9}});
  for (const ModelConfig& config : comparison.options.configs) {
    const Fit growth = fit(comparison, config.architecture);
    table.add({name_of(growth.architecture), show_count(growth.points), exponent_of(growth.time), r_squared_of(growth.time),
               exponent_of(growth.memory), r_squared_of(growth.memory)});
  }
  return "\n" + table.text();
}

std::string failures_list(const Comparison& comparison) {
  if (comparison.failures.empty()) return "";
  std::string list = "\n  not measured:\n";
  for (const CaseFailure& failure : comparison.failures) list += "  " + describe(failure) + "\n";
  return list;
}

// ---- JSON

/// The fields that belong to this architecture, and those that it does not have as all others.
nlohmann::ordered_json own_fields(const ModelConfig& config, const ModelConfig& shared) {
  auto fields = nlohmann::ordered_json::object();
  add_fields(fields, config, [&](const Field& field) {
    const bool other_heads = field.name == "num_heads" && config.num_heads != shared.num_heads;
    return field.owner == config.architecture || other_heads;
  });
  return fields;
}

nlohmann::ordered_json shared_fields(const ModelConfig& config) {
  auto fields = nlohmann::ordered_json::object();
  add_fields(fields, config, [](const Field& field) { return !field.owner && field.name != "architecture"; });
  return fields;
}

nlohmann::ordered_json result_json(const Comparison& comparison, const CaseResult& result) {
  nlohmann::ordered_json json;
  json["architecture"] = name_of(result.config.architecture);
  json["seq_length"] = result.seq_length;
  json["seconds"] = result.measurement.seconds;
  json["seconds_by_repeat"] = result.measurement.seconds_by_repeat;
  json["tokens_per_second"] = tokens_per_second(comparison, result);
  json["memory_bytes"] = result.memory_bytes;
  json["resident_bytes"] = result.resident_bytes;
  json["parameters"] = parameter_count(result.config);
  json["flops"] = flops(comparison, result);
  json["flops_per_second"] = flops(comparison, result) / result.measurement.seconds;
  if (!result.config.warning().empty()) json["warning"] = result.config.warning();
  json["config"] = own_fields(result.config, comparison.options.config);
  return json;
}

nlohmann::ordered_json failure_json(const CaseFailure& failure) {
  return {{"architecture", name_of(failure.architecture)}, {"seq_length", failure.seq_length}, {"reason", failure.reason}};
}

nlohmann::ordered_json fit_json(const Fit& growth) {
  nlohmann::ordered_json json;
  json["architecture"] = name_of(growth.architecture);
  const auto add = [&json](const char* exponent, const char* r_squared, const std::optional<PowerLaw>& law) {
    json[exponent] = law ? nlohmann::ordered_json(law->exponent) : nullptr;
    json[r_squared] = law ? nlohmann::ordered_json(law->r_squared) : nullptr;
  };
  add("time_exponent", "r_squared", growth.time);
  add("memory_exponent", "memory_r_squared", growth.memory);
  json["points"] = growth.points;
  return json;
}

}  // namespace

std::string describe(const CaseFailure& failure) {
  return name_of(failure.architecture) + " at " + std::to_string(failure.seq_length) + ": " + failure.reason;
}

std::string to_text(const Comparison& comparison) {
  return head(comparison) + results_table(comparison) + fits_table(comparison) + failures_list(comparison);
}

nlohmann::ordered_json to_json(const Comparison& comparison) {
  const CompareOptions& options = comparison.options;
  nlohmann::ordered_json json{{"format", "bsbr-comparison"}, {"format_version", 1}};
  json["created"] = utc_now();
  json["ranks"] = comparison.environment.ranks;
  json["threads_per_rank"] = comparison.environment.threads_per_rank;
  json["execution_space"] = comparison.environment.execution_space;
  add_environment(json, comparison.environment);
  json["precision"] = std::string(to_string(options.precision));
  json["batch"] = options.batch;
  json["repeat"] = options.repeat;
  json["seed"] = options.seed;
  json["resident_peak_of_case"] = comparison.resident_peak_of_case;
  json["config"] = shared_fields(options.config);
  for (const char* list : {"results", "failures", "fits"}) json[list] = nlohmann::ordered_json::array();
  for (const CaseResult& result : comparison.results) json["results"].push_back(result_json(comparison, result));
  for (const CaseFailure& failure : comparison.failures) json["failures"].push_back(failure_json(failure));
  for (const ModelConfig& config : options.configs) json["fits"].push_back(fit_json(fit(comparison, config.architecture)));
  return json;
}

}  // namespace bsbr::apps
