// Loss and gradients to be timed, and the forward of the same tokens.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <optional>

#include "bsbr/gradient.hpp"
#include "bsbr/io.hpp"
#include "bsbr/model.hpp"

namespace bsbr::perf {

/// One model with a head and one sequence of random tokens, ready to run.
class Gradient {
 public:
  /// Throws ConfigError if the model has no head.
  Gradient(const Weights<float>& weights, MPI_Comm comm, std::int64_t tokens);

  /// Runs the forward once: hidden states, and the losses of all tokens.
  double forward_seconds();

  /// Forms loss and gradients once.
  double seconds(Recompute recompute);

  /// Forms loss and gradients with and without recomputation, and prints the largest differences to the reference.
  /// Throws unless all agree: what is wrong is not worth timing.
  void validate();

 private:
  LossAndGradients<float> compute(Recompute recompute);

  Model<float> m_model;
  OutputLayer<float> m_head;
  ModelGradient<float> m_gradient;
  Sequence m_sequence;
  Tokens m_tokens;
  Array<const std::int32_t**> m_ids, m_targets;
  Array<float***> m_states;
  std::optional<LossAndGradients<float>> m_result;
};

/// Useful FLOPs of loss and gradients: three times those of the forward and of the head. What is computed again does
/// not count.
double gradient_flops(const ModelConfig& config, std::int64_t tokens);

}  // namespace bsbr::perf
