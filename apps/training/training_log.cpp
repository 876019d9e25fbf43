#include "training/training_log.hpp"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "bsbr/error.hpp"
#include "bsbr/loss.hpp"
#include "io/text_file.hpp"

namespace bsbr::apps {
namespace {

/// The step of a line of the log; none if it is not one.
std::optional<std::int64_t> step_of(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) return std::nullopt;
  return json["step"].get<std::int64_t>();
}

/// Bytes of the lines of steps up to `last_step`: whole lines at the beginning of the file; 0 if there is no file.
std::int64_t size_of_lines(const std::string& path, std::int64_t last_step) {
  std::ifstream file(path, std::ios::binary);
  std::int64_t size = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {  // what has no end is the rest of a line
    const std::optional<std::int64_t> step = step_of(line);
    if (!step) {
      throw FileError(path + ": is no log of a training run: no object with a step ends at byte " +
                          std::to_string(size + static_cast<std::int64_t>(line.size())),
                      "--log takes the log of the run that is resumed, or the name of a new file");
    }
    if (*step > last_step) break;
    size += static_cast<std::int64_t>(line.size()) + 1;
  }
  return size;
}

/// JSON has no NaN and no infinity: null stands for both.
std::string to_line(const LoggedStep& step, std::int64_t tokens, const StepTime& time) {
  const MeanLoss mean{step.loss, 1};
  nlohmann::ordered_json json{{"step", step.step},
                              {"loss", step.loss},
                              {"bits_per_token", mean.bits_per_token()},
                              {"gradient_norm", step.gradient_norm},
                              {"learning_rate", step.learning_rate},
                              {"tokens", tokens},
                              {"seconds", time.seconds},
                              {"tokens_per_second", time.tokens_per_second}};
  if (!std::isnan(step.validation_loss)) json["validation_loss"] = step.validation_loss;
  return json.dump() + "\n";
}

}  // namespace

TrainingLog::TrainingLog(std::string path, std::int64_t last_step) : m_path(std::move(path)) {
  if (m_path.empty()) return;
  if (last_step > 0) m_size = size_of_lines(m_path, last_step);
  io::end_text_file(m_path, m_size, "");
}

void TrainingLog::write_pending() {
  io::end_text_file(m_path, m_size, m_pending);
  m_size += static_cast<std::int64_t>(m_pending.size());
  m_pending.clear();
}

std::string TrainingLog::write(const LoggedStep& step, std::int64_t tokens, const StepTime& time) {
  if (m_path.empty()) return "";
  m_pending += to_line(step, tokens, time);
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
