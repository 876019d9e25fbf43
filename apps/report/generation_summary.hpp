// What bsbr_generate says of a run, as text and as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bsbr/config.hpp"
#include "bsbr/sampling.hpp"
#include "environment/environment.hpp"

namespace bsbr::apps {

struct GenerationSummary {
  ModelConfig config;
  Precision precision = Precision::float32;
  SamplingOptions sampling;
  Environment environment;
  std::string model, input, output;
  std::string state_in, state_out;                                 ///< files of streams; empty: none
  std::int64_t batch = 0, prompt_tokens = 0;                       ///< sequences, and tokens of each prompt
  std::int64_t first_token = 0;                                    ///< position of the prompt's first one
  std::int64_t tokens = 0;                                         ///< generated, of each sequence
  double prefill_seconds = 0;                                      ///< of the prompts
  double decode_seconds = 0;                                       ///< of what was generated
  std::int64_t stream_bytes = 0;                                   ///< that the stream holds in the end, on rank 0
  std::string stopped_by = {};                                     ///< why it ended early; empty: it did not
  std::int64_t predicted_memory_bytes = 0, peak_memory_bytes = 0;  ///< of the largest rank
};

std::string to_text(const GenerationSummary& summary);
nlohmann::ordered_json to_json(const GenerationSummary& summary);

}  // namespace bsbr::apps
