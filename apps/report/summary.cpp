// What bsbr_forward and bsbr_evaluate say of a run, as text and as JSON.
#include "report/summary.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "architectures/traits.hpp"
#include "harness/format.hpp"
#include "report/json_output.hpp"
#include "report/phases.hpp"
#include "report/table.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

std::string describe_tokens(const Summary& summary) {
  const std::string text = show_count(summary.tokens()) + " (" +
                           show_several(summary.sequences(), summary.windows ? "window" : "sequence") + " of " +
                           show_count(summary.length);
  if (!summary.windows) return text + ")";
  return text + ", one every " + show_several(summary.windows->stride, "token") + ", " + show_count(summary.batch) +
         " at a time)";
}

std::string describe_stream(const Streamed& stream) {
  return (stream.origin > 0 ? "continues after " + show_several(stream.origin, "token") + ", " : "") +
         show_several(stream.piece, "token") + " at a time; holds " + show_bytes(stream.bytes) +
         " in the end, on the largest rank";
}

std::string head(const Summary& summary) {
  const std::string warning = summary.config.warning(), note = summary.stored.shape.note;
  return row("model", summary.model + ": " + describe_model(summary.config)) +
         (warning.empty() ? "" : row("note", warning)) + row("input", describe(summary.stored)) +
         (note.empty() ? "" : row("note", note)) + row("tokens", describe_tokens(summary)) +
         (summary.stream ? row("stream", describe_stream(*summary.stream)) : "") +
         row("ran on", describe(summary.environment, summary.precision)) + environment_rows(summary.environment);
}

/// One phase over the ranks: seconds.
struct PhaseTimes {
  std::string name;
  double least = 0, mean = 0, most = 0;
};

/// Values [rank].
PhaseTimes over_ranks(const std::string& name, const std::vector<double>& seconds) {
  const auto [least, most] = std::minmax_element(seconds.begin(), seconds.end());
  const double sum = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  return {name, *least, sum / static_cast<double>(seconds.size()), *most};
}

/// The longest first, those below a thousandth of the time left out; at the end "other", with which the means add up to
/// the time.
std::vector<PhaseTimes> phase_times(const Measurement& measurement) {
  std::map<std::string, std::vector<double>> seconds;
  for (const Profile& profile : measurement.by_rank) {
    for (const auto& [name, value] : profile.seconds) seconds[name].push_back(value);
  }
  std::vector<PhaseTimes> phases;
  std::vector<double> rest(measurement.by_rank.size(), measurement.seconds);
  const auto counts = [&](const PhaseTimes& phase) { return phase.most >= measurement.seconds / 1000; };
  for (auto& [name, values] : seconds) {
    values.resize(rest.size(), 0);  // ranks that have nothing to do with it
    const PhaseTimes phase = over_ranks(name, values);
    if (!counts(phase)) continue;
    phases.push_back(phase);
    for (std::size_t rank = 0; rank < rest.size(); ++rank) rest[rank] -= values[rank];
  }
  std::stable_sort(phases.begin(), phases.end(),
                   [](const auto& one, const auto& other) { return one.mean > other.mean; });
  for (double& value : rest)
    value = std::max(value, 0.0);  // the median of an even number of repeats is the time of none
  if (!rest.empty() && counts(over_ranks("other", rest))) phases.push_back(over_ranks("other", rest));
  return phases;
}

/// All times in one unit, so that they can be compared.
std::string phase_table(const Measurement& measurement) {
  const bool in_seconds = measurement.seconds >= 1;
  const auto show = [&](double seconds) { return show_number("%.3f", in_seconds ? seconds : 1e3 * seconds); };
  const std::string unit = in_seconds ? " s" : " ms";
  Table table({{"phase", 14, Table::Align::left},
               {"meaning", 34, Table::Align::left},
               {"min" + unit, 10},
               {"avg" + unit, 10},
               {"max" + unit, 10},
               {"share", 8}});
  for (const PhaseTimes& phase : phase_times(measurement)) {
    table.add({phase.name, meaning_of_phase(phase.name), show(phase.least), show(phase.mean), show(phase.most),
               show_number("%.1f %%", 100 * phase.mean / measurement.seconds)});
  }
  return table.empty() ? "" : "\n" + table.text();
}

std::string describe_sent(const Summary& summary) {
  const Measurement& measurement = summary.measurement;
  std::string text = show_bytes(measurement.total_bytes_sent()) + " by the busiest rank " +
                     (summary.windows ? "for all windows" : "in one forward");
  const char* separator = ": ";
  for (const auto& [transfer, bytes] : measurement.bytes_sent) {
    text += separator + transfer + " " + show_bytes(bytes);
    separator = ", ";
  }
  return text;
}

std::string describe_loss(const MeanLoss& mean) {
  return show_number("%.6f", mean.loss) + " nats a token, " + show_number("%.6f", mean.bits_per_token()) +
         " bits, perplexity " + show_number("%.6g", mean.perplexity()) + "; the mean of " +
         show_several(mean.counted, "position");
}

std::string describe_nonfinite(const Summary& summary) {
  const auto& [row, token] = *summary.nonfinite.first;
  return "NaN or infinite elements in " + show_count(summary.nonfinite.count) + " of " +
         show_several(summary.tokens(), "hidden state") + ", first at token " + show_count(token) + " of sequence " +
         show_count(row);
}

std::string describe_nonfinite(const NonfiniteGradients& gradients) {
  return "NaN or infinite elements in the gradients of " + show_several(gradients.count, "weight") +
         ", first in that of " + gradients.first;
}

/// What could not be compared, of a Verification or a GradientVerification; `what` holds the elements.
template <class Found>
std::string describe_uncompared(const Found& verification, const std::string& what) {
  std::string text;
  if (verification.nonfinite_in_both > 0)
    text += "; not compared: elements that are NaN or infinite in both, in " +
            show_several(verification.nonfinite_in_both, what);
  if (verification.nonfinite_in_one > 0)
    text += "; FAILED: elements that are NaN or infinite in one of them, in " +
            show_several(verification.nonfinite_in_one, what);
  return text;
}

std::string describe_verification(const Verification& verification) {
  return "largest difference to the reference " + show_number("%.2e", verification.largest_difference) +
         ", largest value " + show_number("%.3g", verification.largest_value) +
         describe_uncompared(verification, "hidden state");
}

std::string describe_verification(const GradientVerification& verification) {
  return "largest difference to a gradient of the reference " +
         show_number("%.2e", verification.largest_relative_difference) + " of its largest element" +
         (verification.worst.empty() ? "" : " (" + verification.worst + ")") + ", to its loss " +
         show_number("%.2e", verification.loss_difference) + describe_uncompared(verification, "gradient");
}

std::string run_rows(const Summary& summary) {
  const Measurement& measurement = summary.measurement;
  const auto repeats = static_cast<std::int64_t>(measurement.seconds_by_repeat.size());
  const double rate = static_cast<double>(summary.tokens()) / measurement.seconds;
  std::string text = (summary.loss ? row("loss", describe_loss(*summary.loss)) : "") +
                     row("time", show_seconds(measurement.seconds) +
                                     (repeats > 1 ? ", median of " + show_several(repeats, "forward") : "")) +
                     row("speed", show_count(std::llround(rate)) + " tokens per second, " +
                                      show_rate(summary.flops() / measurement.seconds)) +
                     row("memory", show_bytes(summary.peak_memory_bytes) + " at the peak of the largest rank, " +
                                       show_bytes(summary.predicted_memory_bytes) + " predicted");
  if (summary.environment.ranks > 1) text += row("sent", describe_sent(summary));
  if (summary.nonfinite.first) text += row("warning", describe_nonfinite(summary));
  if (summary.nonfinite_gradients && summary.nonfinite_gradients->count > 0)
    text += row("warning", describe_nonfinite(*summary.nonfinite_gradients));
  if (summary.verification) text += row("verified", describe_verification(*summary.verification));
  if (summary.gradient_verification) text += row("verified", describe_verification(*summary.gradient_verification));
  if (!summary.output.empty()) text += row("result", summary.output);
  return text + phase_table(measurement);
}

std::string dry_run_rows(const Summary& summary) {
  std::int64_t sum = 0;
  Table table({{"rank", 8}, {"first chunk", 14}, {"chunks", 12}, {"first token", 16}, {"tokens", 16}, {"memory", 14}});
  for (std::size_t rank = 0; rank < summary.parts.size(); ++rank) {
    const Part& part = summary.parts[rank];
    sum += part.memory_bytes;
    table.add({std::to_string(rank), show_count(part.first_chunk), show_count(part.chunks),
               show_count(part.first_token), show_count(part.tokens), show_bytes(part.memory_bytes)});
  }
  return row("memory", show_bytes(summary.predicted_memory_bytes) + " on the largest rank, " + show_bytes(sum) +
                           " together; " + show_bytes(summary.available_bytes) + " available on the node of rank 0") +
         "\n" + table.text();
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

using Counts = std::map<std::string, std::int64_t>;

/// Counts by transfer, and their sum.
nlohmann::ordered_json with_total(const Counts& counts) {
  nlohmann::ordered_json json(counts);
  json["total"] = std::accumulate(counts.begin(), counts.end(), std::int64_t{0},
                                  [](auto sum, const auto& entry) { return sum + entry.second; });
  return json;
}

nlohmann::ordered_json by_rank_json(const std::vector<Profile>& profiles, const std::vector<Place>& places) {
  auto list = nlohmann::ordered_json::array();
  for (std::size_t rank = 0; rank < profiles.size(); ++rank) {
    const Profile& profile = profiles[rank];
    list.push_back({{"rank", rank},
                    {"host", places[rank].host},
                    {"cpus", show_processors(places[rank].processors)},
                    {"seconds_by_phase", profile.seconds},
                    {"processor_seconds_by_phase", profile.processor_seconds},
                    {"bytes_sent", with_total(profile.bytes_sent)},
                    {"messages_sent", with_total(profile.messages_sent)}});
  }
  return list;
}

/// [batch, token], or null.
nlohmann::ordered_json place_json(const std::optional<TokenPlace>& place) {
  if (!place) return nullptr;
  return nlohmann::ordered_json::array({place->batch, place->token});
}

nlohmann::ordered_json verification_json(const Verification& verification) {
  std::optional<TokenPlace> first;
  if (verification.nonfinite_in_one > 0) first = verification.first_in_one;
  return {{"largest_difference", verification.largest_difference},
          {"largest_value", verification.largest_value},
          {"nonfinite_in_both", verification.nonfinite_in_both},
          {"nonfinite_in_one", verification.nonfinite_in_one},
          {"first_nonfinite_in_one", place_json(first)}};
}

nlohmann::ordered_json verification_json(const GradientVerification& verification) {
  nlohmann::ordered_json first = nullptr;
  if (verification.nonfinite_in_one > 0) first = verification.first_in_one;
  return {{"loss_difference", verification.loss_difference},
          {"largest_relative_difference", verification.largest_relative_difference},
          {"worst", verification.worst},
          {"nonfinite_in_both", verification.nonfinite_in_both},
          {"nonfinite_in_one", verification.nonfinite_in_one},
          {"first_nonfinite_in_one", first}};
}

void add_run(nlohmann::ordered_json& json, const Summary& summary) {
  const Measurement& measurement = summary.measurement;
  const double flops = summary.flops();
  if (summary.loss) add_loss(json, *summary.loss);
  json["seconds"] = measurement.seconds;
  json["seconds_by_repeat"] = measurement.seconds_by_repeat;
  json["tokens_per_second"] = static_cast<double>(summary.tokens()) / measurement.seconds;
  json["flops"] = flops;
  json["flops_per_second"] = flops / measurement.seconds;
  json["peak_memory_bytes"] = summary.peak_memory_bytes;
  json["predicted_memory_bytes"] = summary.predicted_memory_bytes;
  json["bytes_sent"] = with_total(measurement.bytes_sent);
  json["messages_sent"] = with_total(measurement.messages_sent);
  json["by_rank"] = by_rank_json(measurement.by_rank, summary.environment.places);
  json["seconds_by_phase"] = measurement.seconds_by_phase;
  json["exposed_communication_seconds"] = measurement.exposed_communication_seconds();
  if (const auto& gradients = summary.nonfinite_gradients) {
    json["nonfinite_gradients"] = gradients->count;
    json["first_nonfinite_gradient"] = gradients->count > 0 ? nlohmann::ordered_json(gradients->first) : nullptr;
  } else {
    json["nonfinite_states"] = summary.nonfinite.count;
    json["first_nonfinite"] = place_json(summary.nonfinite.first);
  }
  if (summary.verification) json["verify"] = verification_json(*summary.verification);
  if (summary.gradient_verification) json["verify_gradients"] = verification_json(*summary.gradient_verification);
}

void add_dry_run(nlohmann::ordered_json& json, const Summary& summary) {
  json["dry_run"] = true;
  json["flops"] = summary.flops();
  json["predicted_memory_bytes"] = summary.predicted_memory_bytes;
  json["available_memory_bytes"] = summary.available_bytes;
  json["partition"] = parts_json(summary.parts);
}

}  // namespace

void Summary::add(const NonfiniteStates& found, TokenPlace first) {
  if (nonfinite.count == 0 && found.first)
    nonfinite.first = TokenPlace{first.batch + found.first->batch, first.token + found.first->token};
  nonfinite.count += found.count;
}

std::string describe_model(const ModelConfig& config) {
  std::string text(to_string(config.architecture));
  if (has_field(config.architecture, "causality")) text += " (" + std::string(to_string(config.causality)) + ")";
  return text + ", " + show_several(config.num_layers, "layer") + " of width " + std::to_string(config.hidden_dim) +
         ", " + show_several(config.num_heads, "head") + ", chunks of " + std::to_string(config.chunk_size) + ", " +
         show_count(parameter_count(config)) + " parameters";
}

std::string to_text(const Summary& summary) {
  return head(summary) + (summary.dry_run() ? dry_run_rows(summary) : run_rows(summary));
}

nlohmann::ordered_json to_json(const Summary& summary) {
  const ModelConfig& config = summary.config;
  const Environment& environment = summary.environment;
  nlohmann::ordered_json json{{"format", "bsbr-summary"}, {"format_version", 1}, {"created", utc_now()}};
  add_fields(json, config, [&](const Field& field) { return field.belongs_to(config.architecture); });
  json["parameters"] = parameter_count(config);
  if (!config.warning().empty()) json["warning"] = config.warning();
  json["model"] = summary.model;
  json["input"] = summary.input;
  if (summary.seed) json["seed"] = *summary.seed;
  for (const auto& [name, value] : fields_of(summary.stored)) json[name] = value;
  if (!summary.stored.shape.note.empty()) json["input_note"] = summary.stored.shape.note;
  json["batch"] = summary.batch;
  json["length"] = summary.length;
  if (summary.windows) json["windows"] = summary.windows->count;
  if (summary.windows) json["stride"] = summary.windows->stride;
  if (summary.stream) {
    json["pieces"] = summary.stream->piece;
    json["first_token"] = summary.stream->origin;
    json["stream_bytes"] = summary.stream->bytes;
  }
  json["tokens"] = summary.tokens();
  json["ranks"] = environment.ranks;
  json["threads_per_rank"] = environment.threads_per_rank;
  json["execution_space"] = environment.execution_space;
  json["precision"] = std::string(to_string(summary.precision));
  if (summary.dry_run())
    add_dry_run(json, summary);
  else
    add_run(json, summary);
  add_environment(json, environment);
  return json;
}

}  // namespace bsbr::apps
