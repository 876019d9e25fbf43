// What bsbr_forward says of a run, as text and as JSON.
#include "summary.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "format.hpp"
#include "json_output.hpp"

namespace bsbr::apps {
namespace {

/// "bsbr (causal), 4 layers of width 512, 8 heads, chunks of 128, 13,433,856 parameters"
std::string describe_model(const ModelConfig& config) {
  std::string text(to_string(config.architecture));
  if (config.architecture == Architecture::bsbr) text += " (" + std::string(to_string(config.causality)) + ")";
  return text + ", " + show_several(config.num_layers, "layer") + " of width " + std::to_string(config.hidden_dim) + ", " +
         show_several(config.num_heads, "head") + ", chunks of " + std::to_string(config.chunk_size) + ", " +
         show_count(parameter_count(config)) + " parameters";
}

std::string describe_tokens(const Summary& summary) {
  return show_count(summary.tokens()) + " (" + show_several(summary.batch, "sequence") + " of " + show_count(summary.length) + ")";
}

std::string head(const Summary& summary) {
  const std::string warning = summary.config.warning();
  return row("model", summary.model + ": " + describe_model(summary.config)) + (warning.empty() ? "" : row("note", warning)) +
         row("input", summary.input) + row("tokens", describe_tokens(summary)) +
         row("ran on", describe(summary.environment, summary.precision));
}

/// Phases with the longest first, those below a thousandth left out.
std::string describe_phases(const Measurement& measurement) {
  std::vector<std::pair<std::string, double>> phases(measurement.seconds_by_phase.begin(), measurement.seconds_by_phase.end());
  std::stable_sort(phases.begin(), phases.end(), [](const auto& one, const auto& other) { return one.second > other.second; });
  std::string text;
  for (const auto& [name, seconds] : phases) {
    if (seconds < measurement.seconds / 1000) continue;
    text += (text.empty() ? "" : ", ") + name + show_number(" %.1f %%", 100 * seconds / measurement.seconds);
  }
  return text;
}

std::string describe_sent(const Measurement& measurement) {
  std::string text = show_bytes(measurement.total_bytes_sent()) + " by the busiest rank in one forward";
  const char* separator = ": ";
  for (const auto& [movement, bytes] : measurement.bytes_sent) {
    text += separator + movement + " " + show_bytes(bytes);
    separator = ", ";
  }
  return text;
}

std::string run_rows(const Summary& summary) {
  const Measurement& measurement = summary.measurement;
  const auto repeats = static_cast<std::int64_t>(measurement.seconds_by_repeat.size());
  const double rate = static_cast<double>(summary.tokens()) / measurement.seconds;
  const double flops = forward_flops(summary.config, summary.batch, summary.length);
  std::string text =
      row("time", show_seconds(measurement.seconds) + (repeats > 1 ? ", median of " + show_several(repeats, "forward") : "")) +
      row("speed", show_count(std::llround(rate)) + " tokens per second, " + show_rate(flops / measurement.seconds)) +
      row("phases", describe_phases(measurement)) +
      row("memory", show_bytes(summary.peak_memory_bytes) + " at the peak of the largest rank, " +
                        show_bytes(summary.predicted_memory_bytes) + " predicted");
  if (summary.environment.ranks > 1) text += row("sent", describe_sent(measurement));
  if (summary.verification) {
    text += row("verified", "largest difference to the reference " + show_number("%.2e", summary.verification->largest_difference) +
                                ", largest value " + show_number("%.3g", summary.verification->largest_value));
  }
  return text + (summary.output.empty() ? "" : row("result", summary.output));
}

std::string dry_run_rows(const Summary& summary) {
  std::int64_t sum = 0;
  std::string table = "\n" + right("rank", 8) + right("first chunk", 14) + right("chunks", 12) + right("first token", 16) +
                      right("tokens", 16) + right("memory", 14) + "\n";
  for (std::size_t rank = 0; rank < summary.parts.size(); ++rank) {
    const Part& part = summary.parts[rank];
    sum += part.memory_bytes;
    table += right(std::to_string(rank), 8) + right(show_count(part.first_chunk), 14) + right(show_count(part.chunks), 12) +
             right(show_count(part.first_token), 16) + right(show_count(part.tokens), 16) + right(show_bytes(part.memory_bytes), 14) + "\n";
  }
  return row("memory", show_bytes(summary.predicted_memory_bytes) + " on the largest rank, " + show_bytes(sum) + " together; " +
                           show_bytes(summary.available_bytes) + " available on the node of rank 0") +
         table;
}

nlohmann::ordered_json parts_json(const std::vector<Part>& parts) {
  auto list = nlohmann::ordered_json::array();
  for (const Part& part : parts) {
    list.push_back({{"rank", list.size()},
                    {"first_chunk", part.first_chunk},
                    {"chunks", part.chunks},
                    {"first_token", part.first_token},
                    {"tokens", part.tokens},
                    {"memory_bytes", part.memory_bytes}});
  }
  return list;
}

nlohmann::ordered_json by_rank_json(const std::vector<Profile>& profiles) {
  auto list = nlohmann::ordered_json::array();
  for (const Profile& profile : profiles) {
    list.push_back({{"rank", list.size()},
                    {"seconds_by_phase", profile.seconds},
                    {"processor_seconds_by_phase", profile.processor_seconds},
                    {"bytes_sent", profile.bytes_sent},
                    {"messages_sent", profile.messages_sent}});
  }
  return list;
}

void add_run(nlohmann::ordered_json& json, const Summary& summary) {
  const Measurement& measurement = summary.measurement;
  const double flops = forward_flops(summary.config, summary.batch, summary.length);
  json["seconds"] = measurement.seconds;
  json["seconds_by_repeat"] = measurement.seconds_by_repeat;
  json["tokens_per_second"] = static_cast<double>(summary.tokens()) / measurement.seconds;
  json["flops"] = flops;
  json["flops_per_second"] = flops / measurement.seconds;
  json["peak_memory_bytes"] = summary.peak_memory_bytes;
  json["predicted_memory_bytes"] = summary.predicted_memory_bytes;
  json["bytes_sent"] = measurement.bytes_sent;
  json["bytes_sent"]["total"] = measurement.total_bytes_sent();
  json["messages_sent"] = measurement.messages_sent;
  json["by_rank"] = by_rank_json(measurement.by_rank);
  json["seconds_by_phase"] = measurement.seconds_by_phase;
  json["exposed_communication_seconds"] = measurement.exposed_communication_seconds();
  if (summary.verification) {
    json["verify"] = {{"largest_difference", summary.verification->largest_difference},
                      {"largest_value", summary.verification->largest_value}};
  }
}

void add_dry_run(nlohmann::ordered_json& json, const Summary& summary) {
  json["dry_run"] = true;
  json["flops"] = forward_flops(summary.config, summary.batch, summary.length);
  json["predicted_memory_bytes"] = summary.predicted_memory_bytes;
  json["available_memory_bytes"] = summary.available_bytes;
  json["partition"] = parts_json(summary.parts);
}

}  // namespace

std::string to_text(const Summary& summary) { return head(summary) + (summary.dry_run() ? dry_run_rows(summary) : run_rows(summary)); }

nlohmann::ordered_json to_json(const Summary& summary) {
  const ModelConfig& config = summary.config;
  const Environment& environment = summary.environment;
  nlohmann::ordered_json json;
  add_fields(json, config, [&](const Field& field) { return field.belongs_to(config.architecture); });
  json["parameters"] = parameter_count(config);
  if (!config.warning().empty()) json["warning"] = config.warning();
  json["model"] = summary.model;
  json["input"] = summary.input;
  json["batch"] = summary.batch;
  json["length"] = summary.length;
  json["tokens"] = summary.tokens();
  json["ranks"] = environment.ranks;
  json["threads_per_rank"] = environment.threads_per_rank;
  json["execution_space"] = environment.execution_space;
  json["precision"] = std::string(to_string(summary.precision));
  if (summary.dry_run())
    add_dry_run(json, summary);
  else
    add_run(json, summary);
  json["blas"] = environment.blas;
  json["kokkos_version"] = environment.kokkos_version;
  json["version"] = environment.version;
  json["git_commit"] = environment.git_commit;
  return json;
}

}  // namespace bsbr::apps
