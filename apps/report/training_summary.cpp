#include "report/training_summary.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "bsbr/loss.hpp"
#include "harness/format.hpp"
#include "progress/pace.hpp"
#include "report/json_output.hpp"
#include "report/summary.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

std::string describe_step(const TrainingSummary& summary) {
  const TrainingSettings& settings = summary.settings;
  std::string text =
      show_several(summary.windows_per_step(), "sequence") + " of " + show_several(settings.length, "token");
  if (settings.accumulate > 1) text += ", " + show_count(settings.batch) + " at a time";
  if (summary.groups > 1) {
    text += ", by " + show_several(summary.groups, "group") + " of " + show_several(summary.sequence_ranks, "rank");
  }
  return text + (summary.recomputes ? ", layers computed again backwards" : "");
}

std::string describe_loss(double nats) {
  const MeanLoss mean{nats, 1};
  return show_number("%.6f", nats) + " nats a token, " + show_number("%.6f", mean.bits_per_token()) + " bits";
}

std::string head(const TrainingSummary& summary) {
  const std::string note = summary.stored.shape.note;
  return row("model", summary.start + ": " + describe_model(summary.config)) +
         (summary.note.empty() ? "" : row("note", summary.note)) + row("input", describe(summary.stored)) +
         (note.empty() ? "" : row("note", note)) + row("a step", describe_step(summary)) +
         row("ran on", describe(summary.environment, summary.settings.precision)) +
         environment_rows(summary.environment);
}

std::string run_rows(const TrainingSummary& summary) {
  std::string steps = show_several(summary.steps_done(), "step") + ", up to step " + show_count(summary.step) + " of " +
                      show_count(summary.settings.steps);
  if (!summary.stopped_by.empty()) steps += "; stopped by " + summary.stopped_by;
  std::string text = row("trained", steps);
  if (summary.bad_steps > 0)
    text += row("warning", show_several(summary.bad_steps, "step") + " had NaN or infinity and changed nothing");
  if (summary.loss) text += row("loss", describe_loss(*summary.loss) + ", of the last step");
  if (summary.validation_loss) {
    text += row("validation", describe_loss(*summary.validation_loss) + "; the lowest was " +
                                  show_number("%.6f", *summary.best_validation_loss) + " nats");
  }
  text += row("time", show_duration(summary.seconds) + ": steps " + show_duration(summary.step_seconds) +
                          ", validation " + show_duration(summary.validation_seconds) + ", checkpoints " +
                          show_duration(summary.checkpoint_seconds));
  if (summary.steps_done() > 0) {
    const double steps_per_second = static_cast<double>(summary.steps_done()) / summary.step_seconds;
    text += row("speed", show_count(std::llround(steps_per_second * static_cast<double>(summary.tokens_per_step()))) +
                             " tokens per second, " + show_rate(steps_per_second * summary.flops_per_step()));
  }
  return text +
         row("memory", show_bytes(summary.peak_memory_bytes) + " at the peak of the largest rank, " +
                           show_bytes(summary.predicted_memory_bytes) + " predicted") +
         row("checkpoint", summary.output);
}

std::string dry_run_rows(const TrainingSummary& summary) {
  const std::string steps = show_several(summary.settings.steps - summary.first_step, "step");
  return row("memory", show_bytes(summary.predicted_memory_bytes) + " on the largest rank; " +
                           show_bytes(summary.available_bytes) + " available on the node of rank 0") +
         (summary.expected_seconds ? row("time", "about " + show_duration(*summary.expected_seconds) + " for " + steps)
                                   : "");
}

nlohmann::ordered_json or_null(const std::optional<double>& number) {
  return number ? nlohmann::ordered_json(*number) : nlohmann::ordered_json(nullptr);
}

void add_run(nlohmann::ordered_json& json, const TrainingSummary& summary) {
  const auto steps = static_cast<double>(summary.steps_done());
  json["step"] = summary.step;
  json["steps_of_this_run"] = summary.steps_done();
  json["stopped_by"] = nullptr;
  if (!summary.stopped_by.empty()) json["stopped_by"] = summary.stopped_by;
  json["bad_steps"] = summary.bad_steps;
  json["loss"] = or_null(summary.loss);
  json["validation_loss"] = or_null(summary.validation_loss);
  json["best_validation_loss"] = or_null(summary.best_validation_loss);
  json["tokens_seen"] = summary.step * summary.tokens_per_step();
  json["seconds"] = summary.seconds;
  json["step_seconds"] = summary.step_seconds;
  json["validation_seconds"] = summary.validation_seconds;
  json["checkpoint_seconds"] = summary.checkpoint_seconds;
  const bool has_steps = summary.steps_done() > 0;
  const auto rate = [&](double of_step) {
    return has_steps ? std::optional(of_step * steps / summary.step_seconds) : std::nullopt;
  };
  json["tokens_per_second"] = or_null(rate(static_cast<double>(summary.tokens_per_step())));
  json["flops_per_second"] = or_null(rate(summary.flops_per_step()));
  json["peak_memory_bytes"] = summary.peak_memory_bytes;
}

}  // namespace

void TrainingSummary::note_validation(double nats) {
  if (std::isnan(nats)) return;
  validation_loss = nats;
  best_validation_loss = std::min(nats, best_validation_loss.value_or(nats));
}

double TrainingSummary::flops_per_step() const {
  return 3 * (forward_flops(config, windows_per_step(), settings.length) +
              head_flops(config, windows_per_step(), settings.length));
}

std::string to_text(const TrainingSummary& summary) {
  return head(summary) + (summary.is_dry_run ? dry_run_rows(summary) : run_rows(summary));
}

nlohmann::ordered_json to_json(const TrainingSummary& summary) {
  const ModelConfig& config = summary.config;
  nlohmann::ordered_json json{{"format", "bsbr-training-summary"}, {"format_version", 1}, {"created", utc_now()}};
  add_fields(json, config, [&](const Field& field) { return field.belongs_to(config.architecture); });
  json["parameters"] = parameter_count(config);
  json["model"] = summary.start;
  if (!summary.note.empty()) json["note"] = summary.note;
  json["checkpoint"] = summary.output;
  for_each_setting(summary.settings, [&](std::string name, const auto& value) {
    std::replace(name.begin(), name.end(), '-', '_');
    if constexpr (std::is_enum_v<std::remove_cvref_t<decltype(value)>>)
      json[name] = std::string(to_string(value));
    else
      json[name] = value;
  });
  for (const auto& [name, value] : fields_of(summary.stored)) json[name] = value;
  json["groups"] = summary.groups;
  json["sequence_ranks"] = summary.sequence_ranks;
  json["recompute"] = summary.recomputes ? "all" : "none";
  json["flops_per_step"] = summary.flops_per_step();
  json["ranks"] = summary.environment.ranks;
  json["threads_per_rank"] = summary.environment.threads_per_rank;
  json["execution_space"] = summary.environment.execution_space;
  json["predicted_memory_bytes"] = summary.predicted_memory_bytes;
  if (summary.is_dry_run) {
    json["dry_run"] = true;
    json["available_memory_bytes"] = summary.available_bytes;
    json["expected_seconds"] = or_null(summary.expected_seconds);
  } else {
    add_run(json, summary);
  }
  add_environment(json, summary.environment);
  return json;
}

}  // namespace bsbr::apps
