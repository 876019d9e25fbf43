#include "forward.hpp"

#include <Kokkos_Core.hpp>
#include <Kokkos_Timer.hpp>
#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "harness/random_tokens.hpp"
#include "harness/verify.hpp"

namespace bsbr::perf {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Forward::Forward(const Weights<float>& weights, MPI_Comm comm, std::int64_t tokens)
    : m_model(weights), m_sequence(comm, 1, tokens, weights.config().chunk_size) {
  m_tokens.ids = harness::random_tokens(m_sequence, weights.config().vocab_size, 1);
  m_ids = Kokkos::create_mirror_view_and_copy(Memory(), m_tokens.ids);
}

double Forward::seconds(Profile* profile) {
  m_states = {};
  const Kokkos::Timer timer;
  m_states = m_model.forward(Execution(), m_sequence, m_ids, std::nullopt, profile);
  Execution().fence();
  return timer.seconds();
}

void Forward::validate() {
  seconds();
  const auto found = harness::verify<float>(m_model.weights(), m_sequence, m_tokens, m_states);
  const std::string architecture(to_string(m_model.config().architecture));
  std::printf("validated      %s, %lld tokens, largest difference to the reference %.1e\n", architecture.c_str(),
              static_cast<long long>(m_sequence.length()), found.largest_difference);
  if (!(found.largest_difference < 1e-4 * found.largest_value))
    throw std::runtime_error("the forward pass is wrong: not timed");
}

}  // namespace bsbr::perf
