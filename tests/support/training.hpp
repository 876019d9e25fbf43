// Steps of training on the ranks of a communicator: a whole step's sequences in, on every rank.
#pragma once

#include <algorithm>
#include <vector>

#include "bsbr/training.hpp"
#include "support/model_gradients.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {

/// What this rank has of a step with all sequences of `batch`, in order, micro-batch by micro-batch.
inline std::vector<MicroBatch> micro_batches(const TrainingGrid& grid, const Batch& batch) {
  const Sequence& sequence = grid.sequence();
  const std::vector<std::int64_t> targets = targets_of(batch);
  std::vector<MicroBatch> mine;
  for (std::int64_t number = 0; number < grid.shape().accumulate; ++number) {
    const std::int64_t first = (number * grid.shape().batch + grid.first_row()) * batch.length;
    const auto rows = [&](const auto& values) {
      const auto begin = values.begin() + first;
      return std::vector(begin, begin + sequence.batch() * batch.length);
    };
    MicroBatch some{local_part<std::int32_t>(sequence, rows(batch.ids)),
                    local_part<std::int32_t>(sequence, rows(targets)), std::nullopt};
    if (!batch.mask.empty()) some.mask = local_part<std::uint8_t>(sequence, rows(batch.mask));
    mine.push_back(some);
  }
  return mine;
}

/// One step with all sequences of `batch`. Collective.
template <class Real>
TrainingStep take_step(Trainer<Real>& trainer, const TrainingGrid& grid, const Batch& batch) {
  return trainer.step(Execution(), micro_batches(grid, batch));
}

/// What the trainer's ranks own of weights or moments, together: &OwnedWeights<Real>::first_moments. Collective.
template <class Real, class Elements>
std::vector<Real> of_all_ranks(const Trainer<Real>& trainer, Elements OwnedWeights<Real>::*elements) {
  std::vector<Real> all(static_cast<std::size_t>(parameter_count(trainer.weights().config())));
  for (const OwnedWeights<Real>& range : trainer.owned()) {
    const std::vector<Real> mine = to_host(range.*elements);
    std::copy(mine.begin(), mine.end(), all.begin() + range.offset);
  }
  // Each is of one rank, and all bits are 0 on the others.
  MPI_Allreduce(MPI_IN_PLACE, all.data(), static_cast<int>(all.size() * sizeof(Real)), MPI_BYTE, MPI_BOR,
                trainer.grid().comm());
  return all;
}

}  // namespace bsbr::testing
