// The learning rate of each step: a linear warm-up, then half a cosine.
#pragma once

#include <cstdint>

namespace bsbr::training {

/// With η = learning_rate, steps counted from 1:
///
///     η·s / warmup_steps                                                          s ≤ warmup_steps
///     min + (η − min)·½(1 + cos(π (s − warmup_steps) / (decay_steps − warmup_steps)))   up to decay_steps
///     min                                                                         after it
///
/// decay_steps = 0: no decay, the rate stays at η. warmup_steps = 0: the cosine begins at once. The warm-up goes first:
/// with 0 < decay_steps ≤ warmup_steps the rate is `min` from the step after it on.
struct LearningRate {
  double learning_rate = 1e-3;
  double min_learning_rate = 0;
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;

  /// Throws ConfigError.
  void validate() const;

  /// Of step s = 1, 2, …
  double at(std::int64_t step) const;
};

}  // namespace bsbr::training
