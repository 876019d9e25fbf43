// What bsbr_compare has found, as text and as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bsbr/config.hpp"
#include "environment/environment.hpp"
#include "measure/measurement.hpp"
#include "programs/compare_options.hpp"

namespace bsbr::apps {

/// One architecture at one length, measured.
struct CaseResult {
  ModelConfig config;
  std::int64_t seq_length = 0;
  Measurement measurement;
  std::int64_t memory_bytes = 0;    ///< the most that one forward has allocated at a time, of the largest rank
  std::int64_t resident_bytes = 0;  ///< resident peak of the process, of the largest rank
  std::optional<double> cores_used_by_others;  ///< on rank 0's node, while it was timed; none where unknown
};

/// One architecture at one length, and why there is no result.
struct CaseFailure {
  enum class Kind { time, memory, other };
  Architecture architecture = Architecture::bsbr;
  std::int64_t seq_length = 0;
  std::string reason;
  Kind kind = Kind::other;
};

struct Comparison {
  CompareOptions options;
  Environment environment;
  bool resident_peak_of_case =
      true;  ///< resident_bytes: false: of the process since its start, for Linux did not let it start again
  std::vector<CaseResult> results;
  std::vector<CaseFailure> failures;
};

/// As the options have it: a table, or a line for each case with commas or tabs.
std::string to_text(const Comparison& comparison);
nlohmann::ordered_json to_json(const Comparison& comparison);

/// "bsbr at 1048576: not enough memory: ..."
std::string describe(const CaseFailure& failure);

}  // namespace bsbr::apps
