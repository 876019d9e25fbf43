#include "report/generation_summary.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "harness/format.hpp"
#include "progress/pace.hpp"
#include "report/json_output.hpp"
#include "report/summary.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// Tokens of all sequences; of none 0.
double rate(std::int64_t tokens, std::int64_t batch, double seconds) {
  return tokens == 0 ? 0 : static_cast<double>(tokens * batch) / seconds;
}

nlohmann::ordered_json or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

std::string describe_sampling(const SamplingOptions& sampling) {
  if (sampling.temperature == 0) return "the largest logit";
  std::string text = "temperature " + show_number("%g", sampling.temperature);
  if (sampling.top_k > 0) text += ", top-k " + show_count(sampling.top_k);
  if (sampling.top_p < 1) text += ", top-p " + show_number("%g", sampling.top_p);
  return text + ", seed " + std::to_string(sampling.seed);
}

std::string speed_row(const std::string& name, std::int64_t tokens, std::int64_t batch, double seconds) {
  return row(name, show_several(tokens, "token") +
                       (batch > 1 ? " of each of " + show_count(batch) + " sequences" : "") + " in " +
                       show_duration(seconds) + ", " + show_count(std::llround(rate(tokens, batch, seconds))) +
                       " tokens per second");
}

}  // namespace

std::string to_text(const GenerationSummary& summary) {
  return row("model", summary.model + ": " + describe_model(summary.config)) + row("prompt", summary.input) +
         row("drawn by", describe_sampling(summary.sampling)) +
         row("ran on", describe(summary.environment, summary.precision)) + environment_rows(summary.environment) +
         speed_row("prefill", summary.prompt_tokens, summary.batch, summary.prefill_seconds) +
         speed_row("generated", summary.tokens, summary.batch, summary.decode_seconds) +
         (summary.stopped_by.empty() ? "" : row("stopped by", summary.stopped_by)) +
         row("stream",
             (summary.first_token > 0 ? "continues after " + show_several(summary.first_token, "token") + "; " : "") +
                 "holds " + show_bytes(summary.stream_bytes) + " in the end") +
         row("memory", show_bytes(summary.peak_memory_bytes) + " at the peak of the largest rank, " +
                           show_bytes(summary.predicted_memory_bytes) + " predicted") +
         row("output", summary.output);
}

nlohmann::ordered_json to_json(const GenerationSummary& summary) {
  const ModelConfig& config = summary.config;
  nlohmann::ordered_json json{{"format", "bsbr-generation-summary"}, {"format_version", 1}, {"created", utc_now()}};
  add_fields(json, config, [&](const Field& field) { return field.belongs_to(config.architecture); });
  json["parameters"] = parameter_count(config);
  json["precision"] = std::string(to_string(summary.precision));
  json["model"] = summary.model;
  json["input"] = summary.input;
  json["output"] = summary.output;
  json["state_in"] = or_null(summary.state_in);
  json["state_out"] = or_null(summary.state_out);
  json["temperature"] = summary.sampling.temperature;
  json["top_k"] = summary.sampling.top_k;
  json["top_p"] = summary.sampling.top_p;
  json["seed"] = summary.sampling.seed;
  json["batch"] = summary.batch;
  json["first_token"] = summary.first_token;
  json["prompt_tokens"] = summary.prompt_tokens;
  json["tokens"] = summary.tokens;
  json["stopped_by"] = or_null(summary.stopped_by);
  json["prefill_seconds"] = summary.prefill_seconds;
  json["prefill_tokens_per_second"] = rate(summary.prompt_tokens, summary.batch, summary.prefill_seconds);
  json["decode_seconds"] = summary.decode_seconds;
  json["decode_tokens_per_second"] = rate(summary.tokens, summary.batch, summary.decode_seconds);
  json["stream_bytes"] = summary.stream_bytes;
  json["predicted_memory_bytes"] = summary.predicted_memory_bytes;
  json["peak_memory_bytes"] = summary.peak_memory_bytes;
  json["ranks"] = summary.environment.ranks;
  json["threads_per_rank"] = summary.environment.threads_per_rank;
  add_environment(json, summary.environment);
  return json;
}

}  // namespace bsbr::apps
