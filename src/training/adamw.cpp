#include "training/adamw.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "config/messages.hpp"
#include "config/weight_table.hpp"
#include "kernels/adamw.hpp"
#include "model/allocate.hpp"

namespace bsbr::training {

std::vector<WeightRun> weight_runs(const ModelConfig& config, std::int64_t begin, std::int64_t end) {
  std::vector<WeightRun> runs;
  WeightLayout(config).for_each([&](const WeightInfo& weight, std::int64_t offset) {
    const std::int64_t first = std::max(begin, offset), last = std::min(end, offset + weight.size());
    if (first >= last) return;
    const bool is_matrix = weight.shape.size() > 1;
    if (!runs.empty() && runs.back().decays == is_matrix)
      runs.back().last = last;
    else
      runs.push_back({first, last, is_matrix});
  });
  return runs;
}

template <class Real>
AdamW<Real>::AdamW(const ModelConfig& config, const AdamWOptions& options, std::int64_t begin, std::int64_t end)
    : m_options(options), m_begin(begin) {
  require_kokkos();
  config.validate();
  options.validate();
  if (begin < 0 || begin > end || end > parameter_count(config)) {
    throw ShapeError("a model of " + std::to_string(parameter_count(config)) + " weights has no range [" +
                     std::to_string(begin) + ", " + std::to_string(end) + ")");
  }
  const std::vector<WeightRun> runs = weight_runs(config, begin, end);
  m_decays_first = !runs.empty() && runs.front().decays;
  m_starts = allocate<std::int64_t*>("adamw::starts", runs.size() + 1);
  const auto starts = Kokkos::create_mirror_view(m_starts);
  for (std::size_t run = 0; run < runs.size(); ++run) starts(run) = runs[run].first - begin;
  starts(runs.size()) = end - begin;
  Kokkos::deep_copy(m_starts, starts);
  for (auto* moments : {&m_first_moments, &m_second_moments}) {
    *moments = allocate<Real*>("adamw::moments", end - begin);
    Kokkos::deep_copy(*moments, Real(0));
  }
}

template <class Real>
void AdamW<Real>::update(const Execution& execution, std::int64_t step, double learning_rate, double gradient_scale,
                         const Array<const Real*>& gradient, const Array<Real*>& weights) const {
  for (const std::size_t given : {gradient.extent(0), weights.extent(0)}) {
    if (given != m_first_moments.extent(0)) {
      throw ShapeError("a step of " + std::to_string(m_first_moments.extent(0)) + " weights is given " +
                       std::to_string(given));
    }
  }
  if (step < 1 || !std::isfinite(learning_rate) || !std::isfinite(gradient_scale)) {
    throw Error("step " + std::to_string(step) + " of the optimiser, with learning rate " + show(learning_rate) +
                " and gradients times " + show(gradient_scale) + ", cannot be taken");
  }
  const auto real = [](double value) { return static_cast<Real>(value); };
  const auto correction = [&](double beta) { return real(1 - std::pow(beta, static_cast<double>(step))); };
  const AdamWOptions& is = m_options;
  const kernels::AdamWStep<Real> numbers{
      .gradient_scale = real(gradient_scale),
      .beta1 = real(is.beta1),
      .rest1 = real(1 - is.beta1),
      .correction1 = correction(is.beta1),
      .beta2 = real(is.beta2),
      .rest2 = real(1 - is.beta2),
      .correction2 = correction(is.beta2),
      .epsilon = real(is.epsilon),
      .weight_decay = real(is.weight_decay),
      .learning_rate = real(learning_rate),
  };
  kernels::adamw<Real>(execution, numbers, m_starts, m_decays_first, gradient, weights, m_first_moments,
                       m_second_moments);
}

template class AdamW<float>;
template class AdamW<double>;

}  // namespace bsbr::training
