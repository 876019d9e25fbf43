// The command line of bsbr_compare.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bsbr/config.hpp"
#include "progress/progress.hpp"

namespace bsbr::apps {

/// How results stand on stdout: for people, or as values between commas or tabs.
enum class TableFormat { table, csv, tsv };

struct CompareOptions {
  ModelConfig config;                     ///< as given, for all architectures; its architecture means nothing
  std::vector<ModelConfig> configs;       ///< one for each selected architecture, in the order of the command line
  std::vector<std::int64_t> seq_lengths;  ///< ascending
  Precision precision = Precision::float32;
  std::int64_t batch = 1;
  std::int64_t seed = 0;
  std::int64_t repeat = 3;
  double max_seconds_per_case = 60;  ///< of all forwards of a case
  TableFormat format = TableFormat::table;
  std::string json;  ///< empty: none; "-": stdout
  bool quiet = false;
  ProgressOptions progress;
  double timeout = 0;  ///< seconds to wait for other ranks; 0: for ever

  bool prints_text() const { return !quiet && json != "-"; }
};

/// Throws Answer, UsageError (a configuration that no model of a selected architecture can have included).
CompareOptions parse_compare_options(int argc, const char* const* argv);

}  // namespace bsbr::apps
