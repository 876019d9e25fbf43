// What bsbr_compare has found, as text and as JSON.
#include "report/comparison.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "harness/format.hpp"
#include "measure/power_law.hpp"
#include "report/json_output.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

std::string name_of(Architecture architecture) { return std::string(to_string(architecture)); }

double tokens_per_second(const Comparison& comparison, const CaseResult& result) {
  return static_cast<double>(comparison.options.batch) * static_cast<double>(result.seq_length) /
         result.measurement.seconds;
}

double flops(const Comparison& comparison, const CaseResult& result) {
  return forward_flops(result.config, comparison.options.batch, result.seq_length);
}

Range range_of(const Measurement& measurement) {
  const auto [least, largest] =
      std::minmax_element(measurement.seconds_by_repeat.begin(), measurement.seconds_by_repeat.end());
  return {*least, *largest};
}

/// From the fastest to the slowest repeat, relative to the median.
double spread(const Measurement& measurement) {
  const Range range = range_of(measurement);
  return (range.high - range.low) / measurement.seconds;
}

/// How one architecture grows with the length.
struct Fit {
  Architecture architecture{};
  std::int64_t points = 0;
  std::optional<PowerLaw> time, memory;
};

Fit fit(const Comparison& comparison, Architecture architecture) {
  std::vector<double> lengths, seconds, bytes;
  std::vector<Range> repeats;
  for (const CaseResult& result : comparison.results) {
    if (result.config.architecture != architecture) continue;
    lengths.push_back(static_cast<double>(result.seq_length));
    seconds.push_back(result.measurement.seconds);
    repeats.push_back(range_of(result.measurement));
    bytes.push_back(static_cast<double>(result.memory_bytes));
  }
  return {architecture, static_cast<std::int64_t>(lengths.size()), fit_power_law(lengths, seconds, repeats),
          fit_power_law(lengths, bytes)};
}

// ---- Text: at most 100 columns, one unit in each column

constexpr double mebi = 1 << 20, giga = 1e9;

std::string head(const Comparison& comparison) {
  const CompareOptions& options = comparison.options;
  const ModelConfig& config = options.config;
  std::string notes;
  for (const ModelConfig& own : options.configs) {
    if (!own.warning().empty()) notes += row("note", own.warning());
  }
  return row("models", show_several(config.num_layers, "layer") + " of width " + std::to_string(config.hidden_dim) +
                           ", " + show_several(config.num_heads, "head") + ", feed-forward of " +
                           std::to_string(config.ff_dim) + ", chunks of " + std::to_string(config.chunk_size)) +
         notes + row("ran on", describe(comparison.environment, options.precision)) +
         environment_rows(comparison.environment) +
         row("timed", "median of " + show_several(options.repeat, "forward") + " of " +
                          show_several(options.batch, "sequence") + ", after one that is not timed");
}

std::string table_line(const std::array<std::string, 9>& cells) {
  constexpr std::array<std::size_t, 8> widths{10, 13, 11, 8, 12, 9, 10, 10};
  std::string line = "  " + left(cells[0], 14);
  for (std::size_t column = 1; column < 9; ++column) line += right(cells[column], widths[column - 1]);
  return line + "\n";
}

std::string result_line(const Comparison& comparison, const CaseResult& result) {
  const double seconds = result.measurement.seconds;
  return table_line({name_of(result.config.architecture), show_count(result.seq_length),
                     show_count(parameter_count(result.config)), show_digits(seconds * 1e3),
                     show_number("%.0f", 100 * spread(result.measurement)),
                     show_count(std::llround(tokens_per_second(comparison, result))),
                     show_digits(flops(comparison, result) / seconds / giga),
                     show_digits(static_cast<double>(result.memory_bytes) / mebi),
                     show_digits(static_cast<double>(result.resident_bytes) / mebi)});
}

/// Above one core in twenty, others slow the measurement down.
std::string others_line(const Comparison& comparison) {
  double most = 0;
  for (const CaseResult& result : comparison.results) most = std::max(most, result.cores_used_by_others.value_or(0));
  const double cores = comparison.environment.ranks * comparison.environment.threads_per_rank;
  if (most <= cores / 20) return "";
  return "  other processes used up to " + show_number("%.1f", most) +
         " cores while a case was timed: times may be too long\n";
}

std::string results_table(const Comparison& comparison) {
  if (comparison.results.empty()) return "";
  std::string table = "\n" +
                      table_line({"architecture", "length", "parameters", "time", "spread", "tokens/s", "GFLOP/s",
                                  "memory", "resident"}) +
                      table_line({"", "tokens", "", "ms", "%", "", "", "MiB", "MiB"});
  for (const CaseResult& result : comparison.results) table += result_line(comparison, result);
  return table + others_line(comparison);
}

std::string exponent_of(const std::optional<PowerLaw>& law) { return law ? show_number("L^%.2f", law->exponent) : "-"; }

std::string uncertainty_of(const std::optional<PowerLaw>& law) {
  return law && law->uncertainty ? show_number("%.2f", *law->uncertainty) : "-";
}

std::string fits_table(const Comparison& comparison) {
  std::string table = "\n  " + left("growth", 14) + right("lengths", 10) + right("time", 10) + right("+-", 7) +
                      right("R^2", 9) + right("memory", 10) + right("R^2", 9) + "\n";
  bool any_uncertain = false;
  for (const ModelConfig& config : comparison.options.configs) {
    const Fit growth = fit(comparison, config.architecture);
    const auto number = [](const std::optional<PowerLaw>& law, const char* format, double PowerLaw::*field) {
      return law ? show_number(format, (*law).*field) : "-";
    };
    const bool uncertain = growth.time && growth.time->uncertain;
    any_uncertain |= uncertain;
    table += "  " + left(name_of(growth.architecture), 14) + right(std::to_string(growth.points), 10) +
             right(exponent_of(growth.time), 10) + right(uncertainty_of(growth.time), 7) +
             right(number(growth.time, "%.4f", &PowerLaw::r_squared), 9) + right(exponent_of(growth.memory), 10) +
             right(number(growth.memory, "%.4f", &PowerLaw::r_squared), 9) + (uncertain ? "  uncertain" : "") + "\n";
  }
  if (!any_uncertain) return table;
  return table + "  uncertain: fewer than three lengths, or repeats or points that scatter too much\n";
}

std::string failures_list(const Comparison& comparison) {
  if (comparison.failures.empty()) return "";
  std::string list = "\n  not measured:\n";
  for (const CaseFailure& failure : comparison.failures) list += "  " + describe(failure) + "\n";
  return list;
}

// ---- Lines of values

/// A value that stands between separators: in quotes where it would be taken for something else.
std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\t\n") == std::string::npos) return text;
  std::string result = "\"";
  for (const char c : text) result += c == '"' ? "\"\"" : std::string(1, c);
  return result + "\"";
}

std::string separated(const std::vector<std::string>& values, char separator) {
  std::string line;
  for (const std::string& value : values)
    line += (&value == &values.front() ? "" : std::string(1, separator)) + quoted(value);
  return line + "\n";
}

std::string exact(double value) { return show_number("%.9g", value); }

/// A line for each case, measured or not, after one with the names of the columns, which hold their units.
std::string lines_of_values(const Comparison& comparison, char separator) {
  std::string lines =
      separated({"architecture", "seq_length", "parameters", "seconds", "seconds_min", "seconds_max",
                 "tokens_per_second", "flops_per_second", "memory_bytes", "resident_bytes", "not_measured"},
                separator);
  for (const CaseResult& result : comparison.results) {
    const double seconds = result.measurement.seconds;
    const Range range = range_of(result.measurement);
    lines +=
        separated({name_of(result.config.architecture), std::to_string(result.seq_length),
                   std::to_string(parameter_count(result.config)), exact(seconds), exact(range.low), exact(range.high),
                   exact(tokens_per_second(comparison, result)), exact(flops(comparison, result) / seconds),
                   std::to_string(result.memory_bytes), std::to_string(result.resident_bytes), ""},
                  separator);
  }
  for (const CaseFailure& failure : comparison.failures) {
    lines += separated({name_of(failure.architecture), std::to_string(failure.seq_length), "", "", "", "", "", "", "",
                        "", failure.reason},
                       separator);
  }
  return lines;
}

// ---- JSON

/// The fields that belong to this architecture, and those that it does not have as all others.
nlohmann::ordered_json own_fields(const ModelConfig& config, const ModelConfig& shared) {
  auto fields = nlohmann::ordered_json::object();
  add_fields(fields, config, [&](const Field& field) {
    const bool other_heads = field.name == "num_heads" && config.num_heads != shared.num_heads;
    return (!field.is_shared() && field.belongs_to(config.architecture)) || other_heads;
  });
  return fields;
}

nlohmann::ordered_json shared_fields(const ModelConfig& config) {
  auto fields = nlohmann::ordered_json::object();
  add_fields(fields, config, [](const Field& field) { return field.is_shared() && field.name != "architecture"; });
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
  json["seconds_spread"] = spread(result.measurement);
  if (result.cores_used_by_others) json["cores_used_by_others"] = *result.cores_used_by_others;
  if (!result.config.warning().empty()) json["warning"] = result.config.warning();
  json["config"] = own_fields(result.config, comparison.options.config);
  return json;
}

nlohmann::ordered_json failure_json(const CaseFailure& failure) {
  const char* kind = failure.kind == CaseFailure::Kind::time     ? "time"
                     : failure.kind == CaseFailure::Kind::memory ? "memory"
                                                                 : "other";
  return {{"architecture", name_of(failure.architecture)},
          {"seq_length", failure.seq_length},
          {"kind", kind},
          {"reason", failure.reason}};
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
  json["time_exponent_uncertainty"] =
      growth.time && growth.time->uncertainty ? nlohmann::ordered_json(*growth.time->uncertainty) : nullptr;
  json["time_uncertain"] = growth.time ? nlohmann::ordered_json(growth.time->uncertain) : nullptr;
  json["points"] = growth.points;
  return json;
}

}  // namespace

std::string describe(const CaseFailure& failure) {
  return name_of(failure.architecture) + " at " + std::to_string(failure.seq_length) + ": " + failure.reason;
}

std::string to_text(const Comparison& comparison) {
  const TableFormat format = comparison.options.format;
  if (format != TableFormat::table) return lines_of_values(comparison, format == TableFormat::csv ? ',' : '\t');
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
  json["max_seconds_per_case"] = options.max_seconds_per_case;
  json["resident_peak_of_case"] = comparison.resident_peak_of_case;
  json["config"] = shared_fields(options.config);
  for (const char* list : {"results", "failures", "fits"}) json[list] = nlohmann::ordered_json::array();
  for (const CaseResult& result : comparison.results) json["results"].push_back(result_json(comparison, result));
  for (const CaseFailure& failure : comparison.failures) json["failures"].push_back(failure_json(failure));
  for (const ModelConfig& config : options.configs)
    json["fits"].push_back(fit_json(fit(comparison, config.architecture)));
  return json;
}

}  // namespace bsbr::apps
