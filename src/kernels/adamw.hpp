// One step of AdamW (Loshchilov and Hutter 2019), element by element, with the gradient g scaled first:
//
//     m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²
//     w ← w − η (λ w + m̂ / (√v̂ + ε)),  m̂ = m / (1 − β₁^s),  v̂ = v / (1 − β₂^s)
//
// The weights are runs of matrices, to which the decay λ applies, and of vectors, to which it does not. An element's
// bits do not depend on where a range of them begins or ends: a host takes all of them, tile by tile, through the same
// vector code, those that do not fill a tile, too. Of a loop of any length the compiler would make two, one for the
// rest, and might contract multiply-adds in one of them otherwise than in the other.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>

#include "kernels/compat.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// The numbers of one step.
template <class Real>
struct AdamWStep {
  Real gradient_scale;
  Real beta1, rest1, correction1;  // β₁, 1 − β₁, 1 − β₁^s
  Real beta2, rest2, correction2;
  Real epsilon, weight_decay, learning_rate;
};

/// The step of one element; weight_decay is that of its run.
template <class Real>
KOKKOS_INLINE_FUNCTION void adamw_element(const AdamWStep<Real>& step, Real weight_decay, Real gradient, Real& weight,
                                          Real& first_moment, Real& second_moment) {
  const Real g = gradient * step.gradient_scale;
  const Real m = step.beta1 * first_moment + step.rest1 * g;
  const Real v = step.beta2 * second_moment + step.rest2 * (g * g);
  const Real update = m / step.correction1 / (std::sqrt(v / step.correction2) + step.epsilon);
  weight -= step.learning_rate * (weight_decay * weight + update);
  first_moment = m;
  second_moment = v;
}

/// Arrays of elements that go through a step together.
template <class Real>
struct AdamWArrays {
  const Real* gradient;
  Real *weight, *first_moment, *second_moment;

  KOKKOS_INLINE_FUNCTION AdamWArrays from(std::int64_t first) const {
    return {gradient + first, weight + first, first_moment + first, second_moment + first};
  }
};

/// Elements of a tile: some vectors. It decides no bits.
inline constexpr int adamw_tile_size = HostSizes::adamw_tile;

/// The step of a whole tile. Not inlined, so that there is no other code for an element on a host.
template <class Real>
[[gnu::noinline]] void adamw_tile(const AdamWStep<Real>& step, Real weight_decay, const Real* __restrict gradient,
                                  Real* __restrict weight, Real* __restrict first_moment,
                                  Real* __restrict second_moment) {
  for (int i = 0; i < adamw_tile_size; ++i)
    adamw_element(step, weight_decay, gradient[i], weight[i], first_moment[i], second_moment[i]);
}

/// The step of the first `count` elements of arrays, all of one run.
template <class Real>
KOKKOS_INLINE_FUNCTION void adamw_run(const AdamWStep<Real>& step, Real weight_decay, const AdamWArrays<Real>& arrays,
                                      std::int64_t count) {
  if constexpr (on_host) {
    std::int64_t first = 0;
    for (; first + adamw_tile_size <= count; first += adamw_tile_size) {
      const AdamWArrays<Real> of_tile = arrays.from(first);
      adamw_tile(step, weight_decay, of_tile.gradient, of_tile.weight, of_tile.first_moment, of_tile.second_moment);
    }
    if (first == count) return;
    const AdamWArrays<Real> rest = arrays.from(first);
    Real gradient[adamw_tile_size] = {}, weight[adamw_tile_size] = {}, first_moment[adamw_tile_size] = {},
         second_moment[adamw_tile_size] = {};
    std::copy_n(rest.gradient, count - first, gradient);
    std::copy_n(rest.weight, count - first, weight);
    std::copy_n(rest.first_moment, count - first, first_moment);
    std::copy_n(rest.second_moment, count - first, second_moment);
    adamw_tile(step, weight_decay, gradient, weight, first_moment, second_moment);
    std::copy_n(weight, count - first, rest.weight);
    std::copy_n(first_moment, count - first, rest.first_moment);
    std::copy_n(second_moment, count - first, rest.second_moment);
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      adamw_element(step, weight_decay, arrays.gradient[i], arrays.weight[i], arrays.first_moment[i],
                    arrays.second_moment[i]);
    }
  }
}

/// The run that an element is in: the last one that begins at it or before. `starts` ascend, and the first is 0.
KOKKOS_INLINE_FUNCTION std::int64_t run_of(const Array<const std::int64_t*>& starts, std::int64_t element) {
  std::int64_t low = 0, high = static_cast<std::int64_t>(starts.extent(0));
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (starts(middle) <= element ? low : high) = middle;
  }
  return low;
}

/// A step of all elements of a range.
/// \param starts where runs begin, counted from the first element of the range: [runs + 1], the first 0, the last the
/// number of elements. Runs with and without decay take turns; `decays_first`: the first one has it
/// \param gradient, weights, first_moments, second_moments [elements]; the last three are changed
template <class Real>
void adamw(const Execution& execution, const AdamWStep<Real>& step, const Array<const std::int64_t*>& starts,
           bool decays_first, const Array<const Real*>& gradient, const Array<Real*>& weights,
           const Array<Real*>& first_moments, const Array<Real*>& second_moments) {
  const auto elements = static_cast<std::int64_t>(weights.extent(0));
  constexpr std::int64_t piece = tuning::thread_elements;
  const Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>> pieces(execution, 0,
                                                                               (elements + piece - 1) / piece);
  const AdamWArrays<Real> arrays{gradient.data(), weights.data(), first_moments.data(), second_moments.data()};
  Kokkos::parallel_for(
      "bsbr::adamw::step", pieces, KOKKOS_LAMBDA(const std::int64_t index) {
        [[maybe_unused]] const auto team = as_team(LoneThread{});
        const std::int64_t end = (index + 1) * piece < elements ? (index + 1) * piece : elements;
        std::int64_t first = index * piece;
        for (std::int64_t run = run_of(starts, first); first < end; ++run) {
          const std::int64_t last = starts(run + 1) < end ? starts(run + 1) : end;
          const bool decays = (run % 2 == 0) == decays_first;
          adamw_run(step, decays ? step.weight_decay : Real(0), arrays.from(first), last - first);
          first = last;
        }
      });
}

}  // namespace bsbr::kernels
