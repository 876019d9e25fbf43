// Golden files: whole small models with inputs and the outputs that docs/mathematics.md defines for them
// (golden/README.md), or losses and gradients (golden_gradients/README.md), or both (golden_learning/README.md).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bsbr/config.hpp"
#include "reference/reference.hpp"

namespace bsbr::testing {

/// A model and what it is given.
struct GoldenModel {
  std::string name;
  ModelConfig config;
  reference::WeightMap weights;  ///< all that the file holds
  std::int64_t batch = 0, length = 0;
  std::vector<std::int64_t> ids;   ///< [batch, length]
  std::vector<std::uint8_t> mask;  ///< [batch, length], 1 = real; empty: no padding

  std::vector<std::int64_t> row_ids(std::int64_t row) const;
  reference::Mask row_mask(std::int64_t row) const;
};

/// What must come out; for bsbr with one of the causalities.
struct GoldenOutput {
  ModelConfig config;                 ///< of this output: its causality is that of the output
  std::vector<double> hidden_states;  ///< [batch, length, hidden_dim]
  std::vector<double> layers;         ///< [num_layers, batch, length, hidden_dim]; empty: not in the file
};

struct GoldenCase : GoldenModel {
  std::vector<GoldenOutput> outputs;  ///< one; for bsbr one for each causality
};

/// What the loss and its gradients must be; for bsbr with one of the causalities.
struct GoldenGradients {
  ModelConfig config;
  double loss = 0;
  std::vector<double> token_loss;  ///< [batch, length − 1], 0 where not counted
  reference::WeightMap gradients;  ///< of each weight
  double largest() const;          ///< the largest element of all gradients
};

/// What some steps of AdamW, with the mask and the causality of the model, must make of the weights.
struct GoldenAdamW {
  double beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0, clip = 0;
  double learning_rate = 0, min_learning_rate = 0;
  std::int64_t warmup_steps = 0, decay_steps = 0, steps = 0;
  std::vector<std::int64_t> ids;               ///< [steps, batch, length]
  std::vector<double> losses, gradient_norms;  ///< [steps], before each; norms before clipping
  reference::WeightMap weights;                ///< after the last one
};

struct GoldenGradientCase : GoldenModel {
  std::vector<std::int64_t> targets;     ///< [batch, length], −1 where not counted
  std::vector<GoldenGradients> outputs;  ///< one; for bsbr one for each causality
  std::optional<GoldenAdamW> adamw;      ///< in some files
};

/// The names of all cases with hidden states, "bsbr_ragged" for example, from index.json of golden/ and
/// golden_learning/. Throws std::runtime_error if one lists none, so that a test over them cannot pass for want of
/// them.
std::vector<std::string> golden_names();

/// <name>.h5 of these folders. Throws std::runtime_error.
GoldenCase read_golden(const std::string& name);

/// The same with losses and gradients, of golden_gradients/ and golden_learning/.
std::vector<std::string> golden_gradient_names();
GoldenGradientCase read_golden_gradients(const std::string& name);

/// The file of a case with hidden states, as a model file for programs and readers.
std::string golden_path(const std::string& name);

}  // namespace bsbr::testing
