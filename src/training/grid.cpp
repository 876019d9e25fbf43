// How ranks share the sequences of a step.
#include <string>

#include "bsbr/error.hpp"
#include "bsbr/training.hpp"
#include "parallel/agree.hpp"
#include "parallel/leaves.hpp"
#include "parallel/mpi.hpp"

namespace bsbr {
namespace {

/// The fewest ranks that may share a sequence: the groups that there are then divide the batch.
int fewest_sequence_ranks(int ranks, std::int64_t batch) {
  int fewest = 1;
  while (ranks % fewest != 0 || batch % (ranks / fewest) != 0) ++fewest;
  return fewest;
}

void validate(const StepShape& shape, int ranks) {
  const auto require = [](const char* name, std::int64_t value) {
    if (value < 1) throw ConfigError(std::string(name) + " = " + std::to_string(value) + " is below 1");
  };
  require("length", shape.length);
  require("batch", shape.batch);
  require("accumulate", shape.accumulate);
  if (shape.sequence_ranks == 0) return;
  require("sequence_ranks", shape.sequence_ranks);
  if (ranks % shape.sequence_ranks != 0) {
    throw ConfigError("sequence_ranks = " + std::to_string(shape.sequence_ranks) + " does not divide the " +
                      std::to_string(ranks) + " ranks");
  }
  const int groups = ranks / shape.sequence_ranks;
  if (shape.batch % groups != 0) {
    throw ConfigError("batch = " + std::to_string(shape.batch) + " cannot be divided among " + std::to_string(groups) +
                          " groups of " + std::to_string(shape.sequence_ranks) + " ranks that share a sequence",
                      "a batch that " + std::to_string(groups) + " divides, or more sequence_ranks");
  }
}

}  // namespace

TrainingGrid::TrainingGrid(MPI_Comm comm, const StepShape& shape, std::int64_t chunk_size)
    : m_shape(shape), m_comm(parallel::duplicate(comm)) {
  const int ranks = parallel::ranks_of(*m_comm), rank = parallel::rank_in(*m_comm);
  parallel::agree(*m_comm, [&] { validate(shape, ranks); });
  if (shape.sequence_ranks == 0) m_shape.sequence_ranks = fewest_sequence_ranks(ranks, shape.batch);
  m_groups = ranks / m_shape.sequence_ranks;
  m_group = rank / m_shape.sequence_ranks;
  const std::shared_ptr<MPI_Comm> of_group = parallel::split(*m_comm, m_group);
  m_sequence.emplace(gradient_sequence(*of_group, shape.batch / m_groups, shape.length, chunk_size));
}

std::int64_t TrainingGrid::first_row() const { return m_shape.batch / m_groups * m_group; }

}  // namespace bsbr
