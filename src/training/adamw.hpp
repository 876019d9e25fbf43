// The optimiser: AdamW (Loshchilov and Hutter 2019), as PyTorch's; kernels/adamw.hpp has the formula.
//
// Each rank updates the weights that it owns, a range of all of them, and has their moments: 8 bytes a weight in float,
// divided by the number of ranks. The step is elementwise, so its bits do not depend on who owns what.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/config.hpp"
#include "bsbr/types.hpp"

namespace bsbr::training {

/// What decides how AdamW goes, besides the learning rate.
struct AdamWOptions {
  double beta1 = 0.9;         // of the mean of gradients, 0 to below 1
  double beta2 = 0.95;        // of the mean of their squares, 0 to below 1
  double epsilon = 1e-8;      // added to the root of the latter, above 0
  double weight_decay = 0.1;  // λ, of matrices, 0 or more

  /// Throws ConfigError.
  void validate() const;
};

/// Weights one after the other, all of which are decayed, or none: [first, last) among all of a model's.
struct WeightRun {
  std::int64_t first, last;
  bool decays;

  bool operator==(const WeightRun&) const = default;
};

/// The runs that the weights [begin, end) consist of. Matrices are decayed, those of embedding and head, too; vectors
/// are not: biases, norms.
std::vector<WeightRun> weight_runs(const ModelConfig& config, std::int64_t begin, std::int64_t end);

/// The moments of the weights [begin, end) among all of a model's (WeightArray::data()), and their steps.
template <class Real>
class AdamW {
 public:
  /// Moments that are 0. Throws ConfigError if options or configuration are not valid, ShapeError if the model has no
  /// such weights, MemoryError.
  AdamW(const ModelConfig& config, const AdamWOptions& options, std::int64_t begin, std::int64_t end);

  /// Of the moments.
  static std::int64_t bytes(std::int64_t begin, std::int64_t end) {
    return 2 * (end - begin) * static_cast<std::int64_t>(sizeof(Real));
  }

  const AdamWOptions& options() const { return m_options; }
  std::int64_t begin() const { return m_begin; }
  std::int64_t end() const { return m_begin + static_cast<std::int64_t>(m_first_moments.extent(0)); }

  /// [end − begin]: the mean of gradients and that of their squares, m and v. A run that is resumed sets them.
  const Array<Real*>& first_moments() const { return m_first_moments; }
  const Array<Real*>& second_moments() const { return m_second_moments; }

  /// Step `step` = 1, 2, … of this range, in the order of `execution`, with gradients times gradient_scale
  /// (clipping.hpp): `gradient` and `weights` are [end − begin]. Throws ShapeError if they are not; Error if the step
  /// is below 1, or rate or scale is not finite: such a step must not be taken.
  void update(const Execution& execution, std::int64_t step, double learning_rate, double gradient_scale,
              const Array<const Real*>& gradient, const Array<Real*>& weights) const;

 private:
  AdamWOptions m_options;
  std::int64_t m_begin;
  bool m_decays_first = false;
  Array<std::int64_t*> m_starts;  // of runs, which are decayed in turn, and the end; counted from m_begin
  Array<Real*> m_first_moments, m_second_moments;
};

}  // namespace bsbr::training
