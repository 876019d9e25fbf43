// A summary as it was asked for: a file of JSON, JSON on stdout, or text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bsbr/parallel.hpp"
#include "harness/job/runtime.hpp"
#include "report/json_output.hpp"

namespace bsbr::apps {

/// Of a summary with to_json() and to_text(). Collective; if it cannot be written, OutputError on all ranks.
/// \param options `json`: a file, "-" for stdout, or empty; `prints_text()`: whether the text is wanted
template <class Options, class Summary>
void report(const harness::Runtime& runtime, const Options& options, const Summary& summary) {
  if (!options.json.empty() && options.json != "-") {
    parallel::agree(runtime.comm(), [&] {
      if (runtime.is_first()) write_json(options.json, to_json(summary));
    });
  }
  if (options.json == "-") runtime.print(dump(to_json(summary)));
  if (options.prints_text()) runtime.print(to_text(summary));
}

}  // namespace bsbr::apps
