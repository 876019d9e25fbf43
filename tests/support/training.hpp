// Steps of training on the ranks of a communicator: a whole step's sequences in, on every rank.
#pragma once

#include <vector>

#include "bsbr/training.hpp"
#include "support/model_gradients.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {

/// One step with all sequences of `batch`, in order, micro-batch by micro-batch. Collective.
template <class Real>
TrainingStep take_step(Trainer<Real>& trainer, const TrainingGrid& grid, const Batch& batch) {
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
  return trainer.step(Execution(), mine);
}

}  // namespace bsbr::testing
