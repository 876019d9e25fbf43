#include "training/learning_rate.hpp"

#include <cmath>
#include <numbers>

#include "training/options.hpp"

namespace bsbr::training {

void LearningRate::validate() const {
  require(learning_rate > 0, "learning_rate", learning_rate, "not above 0", "1e-3 is usual for small models");
  require(min_learning_rate >= 0, "min_learning_rate", min_learning_rate, "below 0",
          "the rate falls to it: a tenth of learning_rate is usual");
  require(min_learning_rate <= learning_rate, "min_learning_rate", min_learning_rate,
          "above " + equation("learning_rate", learning_rate),
          "the rate falls to it: a tenth of learning_rate is usual");
  require(warmup_steps >= 0, "warmup_steps", warmup_steps, "below 0", "0 is without warm-up");
  require(decay_steps >= 0, "decay_steps", decay_steps, "below 0", "0 is without decay");
}

double LearningRate::at(std::int64_t step) const {
  const auto steps = [](std::int64_t count) { return static_cast<double>(count); };
  if (step <= warmup_steps) return learning_rate * steps(step) / steps(warmup_steps);
  if (decay_steps == 0) return learning_rate;
  if (step >= decay_steps) return min_learning_rate;
  const double share = steps(step - warmup_steps) / steps(decay_steps - warmup_steps);
  return min_learning_rate + (learning_rate - min_learning_rate) * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

}  // namespace bsbr::training
