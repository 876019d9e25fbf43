// What decides the numbers of a training run: set by the command line, kept in checkpoints, and taken from there when a
// run is resumed.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "bsbr/checkpoint.hpp"
#include "bsbr/config.hpp"
#include "bsbr/training.hpp"

namespace bsbr::apps {

struct TrainingSettings {
  std::string input;                       ///< FILE[:/dataset]
  std::vector<std::int64_t> input_shape;   ///< of its ids: [ids] or [rows, length]; empty: not known, and no option
  bool bytes = false;                      ///< the input's bytes are the ids, whatever it is
  std::int64_t length = 0;                 ///< tokens of a sequence; 0: those of the input's rows
  std::int64_t batch = 8, accumulate = 1;  ///< sequences of a micro-batch, micro-batches of a step
  std::int64_t steps = 0;                  ///< from the first of all on
  std::string validation;                  ///< FILE[:/dataset]; empty: none
  std::int64_t validate_every = 100, validation_tokens = 1 << 15;
  AdamWOptions optimizer;
  LearningRate learning_rate;
  double clip = 1, dropout = 0;
  std::int64_t seed = 0;
  bool shuffle = true;
  Precision precision = Precision::float32;
};

/// Names of settings, as options have them: "learning-rate".
using SettingNames = std::set<std::string>;

/// What follows from the model and other settings where the command line says nothing: dropout is the model's, the
/// lowest rate a tenth of the rate, which falls to it by the last step, after a warm-up of 100 steps, or a tenth of all
/// steps.
void set_defaults(TrainingSettings& settings, const SettingNames& given, const ModelConfig& config);

/// As attributes of a checkpoint: names with _ instead of -.
Attributes to_attributes(const TrainingSettings& settings);

/// Of the run that the checkpoint `path` is of, with those of `given` that may be others: input, steps, validation, and
/// how a step is cut into micro-batches. Of another input the shape is not known, and `bytes` is what is given.
/// \throws FileError if the checkpoint does not have them all, or a count is out of range
/// \throws UsageError if one that is given contradicts the checkpoint
TrainingSettings resumed_settings(const TrainingSettings& settings, const SettingNames& given,
                                  const TrainingRecord& record, const std::string& path);

/// Whether two checkpoints with these attributes have measured their validation losses on the same data, as far as is
/// known: the file's name and the number of tokens are the same.
bool has_same_validation(const Attributes& one, const Attributes& other);

/// \throws UsageError if a step would have more sequences than can be counted
void require_countable(const TrainingSettings& settings);

/// The largest --batch, and --accumulate.
inline constexpr double largest_batch = 1 << 20;

/// function(name, member) for each of them; with settings that are const, so are the members.
template <class Settings, class Function>
void for_each_setting(Settings& settings, const Function& function) {
  function("input", settings.input);
  function("bytes", settings.bytes);
  function("length", settings.length);
  function("batch", settings.batch);
  function("accumulate", settings.accumulate);
  function("steps", settings.steps);
  function("validation", settings.validation);
  function("validate-every", settings.validate_every);
  function("validation-tokens", settings.validation_tokens);
  function("learning-rate", settings.learning_rate.learning_rate);
  function("min-learning-rate", settings.learning_rate.min_learning_rate);
  function("warmup-steps", settings.learning_rate.warmup_steps);
  function("decay-steps", settings.learning_rate.decay_steps);
  function("beta1", settings.optimizer.beta1);
  function("beta2", settings.optimizer.beta2);
  function("epsilon", settings.optimizer.epsilon);
  function("weight-decay", settings.optimizer.weight_decay);
  function("clip", settings.clip);
  function("dropout", settings.dropout);
  function("seed", settings.seed);
  function("shuffle", settings.shuffle);
  function("precision", settings.precision);
}

}  // namespace bsbr::apps
