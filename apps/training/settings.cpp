#include "training/settings.hpp"

#include <algorithm>
#include <type_traits>

#include "bsbr/error.hpp"
#include "harness/format.hpp"
#include "harness/job/failure.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr std::int64_t most_warmup_steps = 100;
constexpr double share_of_warmup = 0.1, share_of_lowest_rate = 0.1;
constexpr std::int64_t most_windows = 1 << 24;  // in a step
constexpr const char* input_shape = "input_shape";

std::string attribute_name(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// A setting as an attribute holds it: text, whole number or number.
std::string stored(const std::string& value) { return value; }
std::int64_t stored(std::int64_t value) { return value; }
double stored(double value) { return value; }
std::string stored(bool value) { return value ? "on" : "off"; }
std::string stored(Precision value) { return std::string(to_string(value)); }

/// Returns whether `text` is one of its values.
bool take(const std::string& text, std::string& value) {
  value = text;
  return true;
}
bool take(std::int64_t number, std::int64_t& value) {
  value = number;
  return true;
}
bool take(double number, double& value) {
  value = number;
  return true;
}
bool take(const std::string& text, bool& value) {
  value = text == "on";
  return value || text == "off";
}
bool take(const std::string& text, Precision& value) {
  const auto known = from_string<Precision>(text);
  if (!known || *known == Precision::bfloat16) return false;
  value = *known;
  return true;
}

std::string show(const std::string& text) { return text; }
std::string show(std::int64_t number) { return std::to_string(number); }
std::string show(double number) { return show_number("%.17g", number); }

/// Replaces a setting by what the checkpoint has.
template <class Value>
void read_setting(const TrainingRecord& record, const std::string& path, const std::string& name, Value& value) {
  using Stored = decltype(stored(value));
  const std::string attribute = attribute_name(name);
  const auto found = record.attributes.find(attribute);
  const Stored* has = found == record.attributes.end() ? nullptr : std::get_if<Stored>(&found->second);
  if (has == nullptr || !take(*has, value)) {
    throw FileError(path + ": attribute " + attribute + " of /training is missing, or is no value of --" + name,
                    "a checkpoint of bsbr_train has all options that decide the numbers");
  }
}

/// Older checkpoints have none.
std::vector<std::int64_t> read_input_shape(const TrainingRecord& record, const std::string& path) {
  const auto found = record.attributes.find(input_shape);
  if (found == record.attributes.end()) return {};
  const auto* shape = std::get_if<std::vector<std::int64_t>>(&found->second);
  if (shape != nullptr && (shape->size() == 1 || shape->size() == 2)) return *shape;
  throw FileError(path + ": attribute " + input_shape + " of /training is no list of one or two integers");
}

/// Checkpoints are files, and nobody vouches for them.
void require_counts(const TrainingSettings& settings, const std::string& path) {
  const auto require = [&](const char* name, std::int64_t value, std::int64_t least, double most) {
    if (value >= least && static_cast<double>(value) <= most) return;
    throw FileError(path + ": attribute " + name + " of /training is " + std::to_string(value) + ", below " +
                    std::to_string(least) + " or too large");
  };
  constexpr double any = 0x1p62;
  require("length", settings.length, 1, any);
  require("batch", settings.batch, 1, largest_batch);
  require("accumulate", settings.accumulate, 1, largest_batch);
  require("steps", settings.steps, 1, any);
  require("validate_every", settings.validate_every, 1, any);
  require("validation_tokens", settings.validation_tokens, 0, any);
  require("seed", settings.seed, 0, any * 2);
  if (settings.batch * settings.accumulate <= most_windows) return;
  throw FileError(path + ": attributes batch and accumulate of /training are " + std::to_string(settings.batch) +
                  " and " + std::to_string(settings.accumulate) + ": more than " + show_count(most_windows) +
                  " sequences in a step");
}

/// Those that do not decide what a step does.
bool may_change(const std::string& name) {
  return SettingNames{"input", "bytes", "steps", "validation", "validate-every", "validation-tokens"}.contains(name);
}

/// The same windows in a step, in other micro-batches.
void resume_shape(TrainingSettings& settings, const TrainingSettings& given, const SettingNames& names,
                  const std::string& path) {
  const std::int64_t windows = settings.batch * settings.accumulate;
  const bool has_batch = names.contains("batch"), has_accumulate = names.contains("accumulate");
  if (has_batch) settings.batch = given.batch;
  if (has_accumulate) settings.accumulate = given.accumulate;
  if (has_batch && !has_accumulate) settings.accumulate = windows / settings.batch;
  if (has_accumulate && !has_batch) settings.batch = windows / settings.accumulate;
  if (settings.batch * settings.accumulate == windows) return;
  throw UsageError(std::string(has_batch ? "--batch " + show(given.batch) : "") +
                       (has_batch && has_accumulate ? " and " : "") +
                       (has_accumulate ? "--accumulate " + show(given.accumulate) : "") + " contradict " + path +
                       ", whose steps have " + show_several(windows, "window"),
                   "the product of --batch and --accumulate is what decides the numbers");
}

}  // namespace

void set_defaults(TrainingSettings& settings, const SettingNames& given, const ModelConfig& config) {
  if (!given.contains("dropout")) settings.dropout = config.dropout;
  LearningRate& rate = settings.learning_rate;
  if (!given.contains("min-learning-rate")) rate.min_learning_rate = share_of_lowest_rate * rate.learning_rate;
  if (!given.contains("decay-steps")) rate.decay_steps = settings.steps;
  if (!given.contains("warmup-steps")) {
    const auto share = static_cast<std::int64_t>(share_of_warmup * static_cast<double>(settings.steps));
    rate.warmup_steps = std::min(most_warmup_steps, share);
  }
}

Attributes to_attributes(const TrainingSettings& settings) {
  Attributes attributes;
  for_each_setting(
      settings, [&](const std::string& name, const auto& value) { attributes[attribute_name(name)] = stored(value); });
  if (!settings.input_shape.empty()) attributes[input_shape] = settings.input_shape;
  return attributes;
}

TrainingSettings resumed_settings(const TrainingSettings& settings, const SettingNames& given,
                                  const TrainingRecord& record, const std::string& path) {
  TrainingSettings resumed = settings;
  for_each_setting(resumed, [&](const std::string& name, auto& value) {
    const auto wanted = stored(value);
    const bool is_given = given.contains(name) || (name == "bytes" && given.contains("input"));
    if (is_given && may_change(name)) return;
    read_setting(record, path, name, value);
    if (!is_given || name == "batch" || name == "accumulate" || stored(value) == wanted) return;
    throw UsageError("--" + name + " " + show(wanted) + " contradicts " + path + ", which has " + show(stored(value)),
                     "leave the option out: a run goes on with what it was begun with");
  });
  if (!given.contains("input")) resumed.input_shape = read_input_shape(record, path);
  require_counts(resumed, path);
  resume_shape(resumed, settings, given, path);
  return resumed;
}

bool has_same_validation(const Attributes& one, const Attributes& other) {
  for (const char* name : {"validation", "validation_tokens"}) {
    const auto of_one = one.find(name), of_other = other.find(name);
    if (of_one == one.end() || of_other == other.end() || of_one->second != of_other->second) return false;
  }
  return true;
}

void require_countable(const TrainingSettings& settings) {
  if (settings.batch * settings.accumulate <= most_windows) return;
  throw UsageError("--batch " + show(settings.batch) + " times --accumulate " + show(settings.accumulate) +
                   " are more than " + show_count(most_windows) + " sequences in a step");
}

}  // namespace bsbr::apps
