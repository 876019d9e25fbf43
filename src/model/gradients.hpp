// The gradient of a model's weights. parallel/leaf_sums.hpp sums such arrays over tokens, and
// parallel/reduce_scatter.hpp over ranks.
#pragma once

#include "bsbr/weights.hpp"

namespace bsbr {

/// The gradient with respect to each weight, in the places of the weights.
template <class Real>
class Gradients : public WeightArray<Real> {
 public:
  /// All 0. Throws ConfigError if the configuration is not valid, MemoryError if there is not enough memory.
  explicit Gradients(const ModelConfig& config) : WeightArray<Real>(config, "gradients") {}

  void set_to_zero(const Execution& execution) const { Kokkos::deep_copy(execution, this->data(), Real(0)); }
};

}  // namespace bsbr
