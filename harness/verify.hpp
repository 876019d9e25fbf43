// Comparing a result with the reference, where the sequence is short enough for plain loops.
#pragma once

#include <optional>
#include <string>

#include "bsbr/gradient.hpp"
#include "bsbr/io.hpp"
#include "bsbr/nonfinite.hpp"
#include "bsbr/weights.hpp"

namespace bsbr::harness {

struct Verification {
  // Of the elements that are finite in the result and in the reference.
  double largest_difference = 0;
  double largest_value = 0;  ///< of the reference, by magnitude

  // Hidden states with elements that are NaN or infinite.
  std::int64_t nonfinite_in_both = 0;  ///< the same elements of both: these are not compared
  std::int64_t nonfinite_in_one = 0;   ///< others: where this is not 0 the result is wrong, or the reference
  TokenPlace first_in_one{0, 0};       ///< the first of these, if there is one
};

/// Throws VerificationError if elements are NaN or infinite, in one of the two or in both: what is not finite is not
/// verified. `precision`: of the run.
void require_agreement(const Verification& verification, Precision precision);

/// Throws UsageError if the reference would take too long.
void require_verifiable(const ModelConfig& config, const Sequence& sequence);

/// The reference runs on rank 0, in double precision. Collective; all ranks return the same.
template <class Real>
Verification verify(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                    const Array<const Real***>& hidden_states);

/// How far loss and gradients are from those of the reference; infinite where one of them is not finite.
struct GradientVerification {
  double loss_difference = 0;  ///< of the mean loss, relative to it
  /// The largest difference of an element, relative to the largest element of that weight's gradient; but at least to a
  /// thousandth of the largest of all, since some are 0 but for rounding, as those of a key's bias.
  double gradient_difference = 0;
  std::string weight;  ///< whose gradient has that difference
};

/// The same of loss and gradients, each token's target being next_tokens()' one.
template <class Real>
GradientVerification verify_gradients(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                                      const LossAndGradients<Real>& found);

}  // namespace bsbr::harness
