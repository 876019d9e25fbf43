// The log of a training run: a file of one JSON object a line, each written as soon as its step has ended.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bsbr/checkpoint.hpp"

namespace bsbr::apps {

/// How a step went in time: the fields of a line that differ from run to run; NaN: not known.
struct StepTime {
  double seconds = 0;  ///< of the step
  double tokens_per_second = 0;
};

/// One process writes it. docs/formats.md, "The log of a training run", has the fields.
class TrainingLog {
 public:
  /// Makes the file, or goes on with the one that is there: it then has a line for each step of `before`. Lines of
  /// later steps are cut off, and so is what a run that was killed has left of a line; lines that are missing are made
  /// again, without the times, which only they had. \param path of the file; empty: no log \param before steps of the
  /// checkpoint that the run goes on from; none: it begins, and the file is emptied \param tokens_per_step of all
  /// sequences of a step \throws FileError if there is a file that is no log \throws OutputError
  TrainingLog(std::string path, const std::vector<LoggedStep>& before, std::int64_t tokens_per_step);

  /// \returns what went wrong, when it does for the first time in a row: then the line is kept, and written with the
  /// next one. Empty: nothing.
  std::string write(const LoggedStep& step, const StepTime& time);

  /// \throws OutputError if lines are still to be written
  void finish();

 private:
  std::string to_line(const LoggedStep& step, const StepTime& time) const;
  std::string rest_of(const std::vector<LoggedStep>& before);
  void write_pending();

  std::string m_path;
  std::int64_t m_tokens_per_step;
  std::int64_t m_size = 0;  // bytes of the file, whole lines
  std::string m_pending;    // lines to be written at its end
  bool m_has_failed = false;
};

}  // namespace bsbr::apps
