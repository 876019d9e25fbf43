// A forward pass to be timed, and what it is held against.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/model.hpp"

namespace bsbr::perf {

double median(std::vector<double> values);

/// One model and one sequence of random tokens, ready to run.
class Forward {
 public:
  Forward(const Weights<float>& weights, MPI_Comm comm, std::int64_t tokens);

  /// Runs it once; the time of each phase is added to a profile.
  double seconds(Profile* profile = nullptr);

  /// Runs it once, and prints the largest difference to the reference. Throws unless they agree: what is wrong is not
  /// worth timing.
  void validate();

 private:
  Model<float> m_model;
  Sequence m_sequence;
  Tokens m_tokens;
  Array<const std::int32_t**> m_ids;
  Array<float***> m_states;
};

}  // namespace bsbr::perf
