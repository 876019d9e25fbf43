// Loss and gradients of a whole model and a batch of a test, on the ranks of a communicator.
#pragma once

#include <optional>
#include <vector>

#include "bsbr/gradient.hpp"
#include "reference/reference.hpp"
#include "support/device_arrays.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {

/// What all ranks get.
template <class Real>
struct ComputedGradients {
  double loss = 0;
  std::int64_t counted = 0;
  std::vector<double> token_losses;  // [batch, length]
  std::vector<Real> gradients;       // in the places of the weights
};

/// Loss and gradients of a batch on the ranks of a communicator. Collective.
template <class Real>
ComputedGradients<Real> compute_gradients(const Weights<Real>& weights, MPI_Comm comm, const Batch& batch,
                                          const std::vector<std::int64_t>& targets,
                                          Recompute recompute = Recompute::all) {
  const ModelConfig& config = weights.config();
  const Sequence sequence = gradient_sequence(comm, batch.batch, batch.length, config.chunk_size);
  std::optional<Array<const std::uint8_t**>> mask;
  if (!batch.mask.empty()) mask = local_part<std::uint8_t>(sequence, batch.mask);
  ModelGradient<Real> model(weights);
  const auto result = model.compute(Execution(), sequence, local_part<std::int32_t>(sequence, batch.ids),
                                    local_part<std::int32_t>(sequence, targets), mask, nullptr, recompute);
  const Array<double***> losses(result.token_losses.data(), result.token_losses.extent(0),
                                result.token_losses.extent(1), 1);
  return {result.loss.loss, result.loss.counted, gather_tokens(sequence, losses), to_host(result.gradients.data())};
}

inline std::vector<std::int64_t> targets_of(const Batch& batch) {
  return reference::next_tokens(batch.ids, batch.mask, batch.length);
}

}  // namespace bsbr::testing
