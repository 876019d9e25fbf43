#include "training/training_log.hpp"

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "bsbr/error.hpp"
#include "bsbr/loss.hpp"
#include "io/text_file.hpp"

namespace bsbr::apps {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr const char* validation_loss = "validation_loss";

/// A line of the log; null if it is not one.
nlohmann::ordered_json parse(const std::string& line) {
  auto json = nlohmann::ordered_json::parse(line, nullptr, false);
  const bool is_step = json.is_object() && json.contains("step") && json["step"].is_number_integer();
  return is_step ? json : nlohmann::ordered_json();
}

bool has_validation(const LoggedStep& step) { return !std::isnan(step.validation_loss); }

/// Whether a line is that of the step, and has the validation that the step has.
bool is_of(const nlohmann::ordered_json& line, const LoggedStep& step) {
  return line["step"].get<std::int64_t>() == step.step && (!has_validation(step) || line.contains(validation_loss));
}

}  // namespace

TrainingLog::TrainingLog(std::string path, const std::vector<LoggedStep>& before, std::int64_t tokens_per_step)
    : m_path(std::move(path)), m_tokens_per_step(tokens_per_step) {
  if (m_path.empty()) return;
  m_pending = rest_of(before);
  write_pending();
}

/// JSON has no NaN and no infinity: null stands for both.
std::string TrainingLog::to_line(const LoggedStep& step, const StepTime& time) const {
  const MeanLoss mean{step.loss, 1};
  nlohmann::ordered_json json{{"step", step.step},
                              {"loss", step.loss},
                              {"bits_per_token", mean.bits_per_token()},
                              {"gradient_norm", step.gradient_norm},
                              {"learning_rate", step.learning_rate},
                              {"tokens", step.step * m_tokens_per_step},
                              {"seconds", time.seconds},
                              {"tokens_per_second", time.tokens_per_second}};
  if (has_validation(step)) json[validation_loss] = step.validation_loss;
  return json.dump() + "\n";
}

/// Finds how many bytes of the file are lines of these steps, one after the other, and returns the lines that are to
/// follow them.
std::string TrainingLog::rest_of(const std::vector<LoggedStep>& before) {
  if (before.empty()) return "";
  std::ifstream file(m_path, std::ios::binary);
  std::map<std::int64_t, nlohmann::ordered_json> others;  // lines that do not follow, by their steps
  std::size_t next = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {  // what has no end is the rest of a line
    const auto json = parse(line);
    if (json.is_null()) {
      throw FileError(
          m_path + ": is no log of a training run: no object with a step stands in \"" + line.substr(0, 40) + '"',
          "--log takes the log of the run that is resumed, or the name of a new file");
    }
    const auto step = json["step"].get<std::int64_t>();
    if (step > before.back().step) break;
    if (others.empty() && next < before.size() && is_of(json, before[next])) {
      m_size += static_cast<std::int64_t>(line.size()) + 1;
      ++next;
    } else {
      others[step] = json;
    }
  }
  std::string rest;
  for (; next < before.size(); ++next) {
    const auto found = others.find(before[next].step);
    if (found == others.end()) {
      rest += to_line(before[next], {nan, nan});
      continue;
    }
    if (has_validation(before[next])) found->second[validation_loss] = before[next].validation_loss;
    rest += found->second.dump() + "\n";
  }
  return rest;
}

void TrainingLog::write_pending() {
  io::end_text_file(m_path, m_size, m_pending);
  m_size += static_cast<std::int64_t>(m_pending.size());
  m_pending.clear();
}

std::string TrainingLog::write(const LoggedStep& step, const StepTime& time) {
  if (m_path.empty()) return "";
  m_pending += to_line(step, time);
  try {
    write_pending();
  } catch (const OutputError& error) {
    return std::exchange(m_has_failed, true) ? "" : error.what();
  }
  m_has_failed = false;
  return "";
}

void TrainingLog::finish() {
  if (!m_pending.empty()) write_pending();
}

}  // namespace bsbr::apps
