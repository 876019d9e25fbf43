// What bsbr_forward and bsbr_evaluate say of a run, as text and as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bsbr/config.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/nonfinite.hpp"
#include "environment/environment.hpp"
#include "files/stored_tokens.hpp"
#include "harness/verify.hpp"
#include "measure/measurement.hpp"

namespace bsbr::apps {

/// One rank's part of the sequences and its memory.
struct Part {
  std::int64_t first_chunk = 0, chunks = 0, first_token = 0, tokens = 0, memory_bytes = 0;
};

/// Windows of one sequence that are evaluated, `batch` at a time.
struct Windows {
  std::int64_t count = 0, stride = 0;
};

/// Sequences that are fed to a stream.
struct Streamed {
  std::int64_t origin = 0;  ///< tokens of each that it had read before
  std::int64_t piece = 0;   ///< tokens at a time
  std::int64_t bytes = 0;   ///< that it holds in the end, on the largest rank
};

struct Summary {
  ModelConfig config;
  Precision precision = Precision::float32;
  std::int64_t batch = 0, length = 0;
  std::optional<Windows> windows;
  std::optional<Streamed> stream;
  Environment environment;
  std::int64_t predicted_memory_bytes = 0;  ///< of the largest rank
  std::string model, input, output;
  std::optional<std::int64_t> seed;  ///< of random tokens
  StoredTokens stored;               ///< how the input is stored
  bool evaluates = false;            ///< the head computes losses

  // of a run
  Measurement measurement;
  std::int64_t peak_memory_bytes = 0;  ///< of the largest rank
  NonfiniteStates nonfinite;           ///< without gradients, which do not keep the hidden states
  std::optional<harness::NonfiniteGradients> nonfinite_gradients;
  std::optional<MeanLoss> loss;  ///< if it evaluates
  std::optional<harness::Verification> verification;
  std::optional<harness::GradientVerification> gradient_verification;

  // of a dry run
  std::vector<Part> parts;
  std::int64_t available_bytes = 0;  ///< on the first rank's node

  bool dry_run() const { return !parts.empty(); }
  std::int64_t sequences() const { return windows ? windows->count : batch; }
  std::int64_t tokens() const { return sequences() * length; }
  double flops() const {
    const std::int64_t origin = stream ? stream->origin : 0;
    return forward_flops(config, sequences(), origin + length) - forward_flops(config, sequences(), origin) +
           (evaluates ? head_flops(config, sequences(), length) : 0);
  }

  /// Notes what was found of some sequences' hidden states: `first` is the place of their first token among all.
  void add(const NonfiniteStates& found, TokenPlace first);
};

/// "bsbr (causal), 4 layers of width 512, 8 heads, chunks of 128, 13,433,856 parameters"
std::string describe_model(const ModelConfig& config);

std::string to_text(const Summary& summary);
nlohmann::ordered_json to_json(const Summary& summary);

}  // namespace bsbr::apps
