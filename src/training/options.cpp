// What the options of training may be, and the learning rate that they give each step.
#include <cmath>
#include <numbers>

#include "bsbr/training.hpp"
#include "config/require_number.hpp"
#include "training/clipping.hpp"

namespace bsbr {

void AdamWOptions::validate() const {
  const auto require_mean = [](std::string_view name, double value) {
    require_number(value >= 0 && value < 1, name, value, value < 0 ? "below 0" : "not below 1",
                   "it is the share that a mean keeps of itself in each step: 0.9 and 0.95 are usual");
  };
  require_mean("beta1", beta1);
  require_mean("beta2", beta2);
  require_number(epsilon > 0, "epsilon", epsilon, "not above 0",
                 "it keeps a weight in place whose gradients are 0: 1e-8 is usual");
  require_number(weight_decay >= 0, "weight_decay", weight_decay, "below 0", "0 is without decay");
}

void LearningRate::validate() const {
  require_number(learning_rate > 0, "learning_rate", learning_rate, "not above 0", "1e-3 is usual for small models");
  require_number(min_learning_rate >= 0, "min_learning_rate", min_learning_rate, "below 0",
                 "the rate falls to it: a tenth of learning_rate is usual");
  require_number(min_learning_rate <= learning_rate, "min_learning_rate", min_learning_rate,
                 "above " + equation("learning_rate", learning_rate),
                 "the rate falls to it: a tenth of learning_rate is usual");
  require_number(warmup_steps >= 0, "warmup_steps", warmup_steps, "below 0", "0 is without warm-up");
  require_number(decay_steps >= 0, "decay_steps", decay_steps, "below 0", "0 is without decay");
}

double LearningRate::at(std::int64_t step) const {
  const auto steps = [](std::int64_t count) { return static_cast<double>(count); };
  if (step <= warmup_steps) return learning_rate * steps(step) / steps(warmup_steps);
  if (decay_steps == 0) return learning_rate;
  if (step >= decay_steps) return min_learning_rate;
  const double share = steps(step - warmup_steps) / steps(decay_steps - warmup_steps);
  return min_learning_rate + (learning_rate - min_learning_rate) * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

void TrainingOptions::validate() const {
  optimizer.validate();
  learning_rate.validate();
  training::validate_clip(clip);
  require_number(dropout >= 0 && dropout < 1, "dropout", dropout, dropout < 0 ? "below 0" : "not below 1",
                 "it is the probability with which a number is dropped: 0 is without dropout, 0.1 is usual");
}

}  // namespace bsbr
