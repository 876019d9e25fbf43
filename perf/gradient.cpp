#include "gradient.hpp"

#include <Kokkos_Core.hpp>
#include <Kokkos_Timer.hpp>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "harness/random_tokens.hpp"
#include "harness/verify.hpp"

namespace bsbr::perf {
namespace {

constexpr bool on_host = Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible;

/// Whether two arrays have the same bits.
bool same_bits(const Array<float*>& a, const Array<float*>& b) {
  std::int64_t differing = 0;
  Kokkos::parallel_reduce(
      "perf::same_bits", Kokkos::RangePolicy<Execution>(0, static_cast<std::int64_t>(a.size())),
      KOKKOS_LAMBDA(const std::int64_t i, std::int64_t& count) { count += !(a(i) == b(i)); }, differing);
  return differing == 0;
}

}  // namespace

Gradient::Gradient(const Weights<float>& weights, MPI_Comm comm, std::int64_t tokens)
    : m_model(weights),
      m_head(weights),
      m_gradient(weights),
      m_sequence(gradient_sequence(comm, 1, tokens, weights.config().chunk_size)) {
  m_tokens.ids = harness::random_tokens(m_sequence, weights.config().vocab_size, 1);
  m_ids = Kokkos::create_mirror_view_and_copy(Memory(), m_tokens.ids);
  m_targets = next_tokens(Execution(), m_sequence, m_ids);
}

double Gradient::forward_seconds() {
  m_states = {};
  const Kokkos::Timer timer;
  m_states = m_model.forward(Execution(), m_sequence, m_ids);
  m_head.losses(Execution(), m_sequence, m_states, m_targets);
  Execution().fence();
  return timer.seconds();
}

double Gradient::seconds(Recompute recompute) {
  m_result.reset();
  const Kokkos::Timer timer;
  m_result = compute(recompute);
  return timer.seconds();
}

void Gradient::validate() {
  const ModelConfig& config = m_model.config();
  const auto result = compute(Recompute::all);
  const auto found = harness::verify_gradients<float>(m_model.weights(), m_sequence, m_tokens, m_targets,
                                                      result.loss.loss, result.gradients);
  std::printf("validated      %s, %lld tokens, largest differences to the reference: loss %.1e, gradients %.1e (%s)\n",
              std::string(to_string(config.architecture)).c_str(), static_cast<long long>(m_sequence.length()),
              found.loss_difference, found.largest_relative_difference, found.worst.c_str());
  if (!(found.loss_difference < 1e-5 * result.loss.loss) || !(found.largest_relative_difference < 1e-3) ||
      found.nonfinite_in_one + found.nonfinite_in_both > 0)
    throw std::runtime_error("loss or gradients are wrong: not timed");
  // A GPU's BLAS may take another algorithm for another number of rows.
  if (on_host && !same_bits(result.gradients.data(), compute(Recompute::none).gradients.data()))
    throw std::runtime_error("gradients depend on what is computed again: not timed");
}

LossAndGradients<float> Gradient::compute(Recompute recompute) {
  return m_gradient.compute(Execution(), m_sequence, m_ids, m_targets, std::nullopt, nullptr, recompute);
}

double gradient_flops(const ModelConfig& config, std::int64_t tokens) {
  return 3 * (forward_flops(config, 1, tokens) + head_flops(config, 1, tokens));
}

}  // namespace bsbr::perf
