// Where a pass over a batch puts the sums of gradients that it forms, part by part of the model.
#pragma once

#include "model/gradient_parts.hpp"
#include "parallel/leaf_sums.hpp"

namespace bsbr {

/// What becomes of them is up to those that implement this: gradients for all ranks, or a step of training. All ranks
/// call the same functions for the same parts in the same order.
template <class Real>
class GradientSums {
 public:
  virtual ~GradientSums() = default;
  GradientSums(const GradientSums&) = delete;
  GradientSums& operator=(const GradientSums&) = delete;

  /// The sums over this rank's leaves of the pass, in their order, elements as in gradient_part().
  virtual parallel::LeafSums<Real>& leaves(PartOfModel part) = 0;

  /// This rank's leaves are all in it. Collective, and so is advance().
  virtual void formed(PartOfModel part) = 0;

  /// Some other work has been done since: messages may go on. A part's next layer is formed after two of these calls.
  virtual void advance() = 0;

 protected:
  GradientSums() = default;
};

}  // namespace bsbr
