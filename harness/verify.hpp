// Comparing a result with the reference, where the sequence is short enough for plain loops.
#pragma once

#include <string>

#include "bsbr/io.hpp"
#include "bsbr/loss.hpp"
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

  /// Adds what was found of other sequences, of which `first_row` is the number of the first.
  void add(const Verification& other, std::int64_t first_row);
};

/// Loss and gradients.
struct GradientVerification {
  double loss_difference = 0;  ///< nats; NaN or infinite where a loss is

  /// Between two elements that are finite, relative to the largest of that weight's gradient in the reference; to a
  /// thousandth of the largest of all where that is more: gradients that are zero but for rounding have no scale.
  double largest_relative_difference = 0;
  std::string worst;  ///< the weight of that gradient; empty if none differs

  // Gradients, one for each weight, with elements that are NaN or infinite.
  std::int64_t nonfinite_in_both = 0, nonfinite_in_one = 0;  ///< as in Verification
  std::string first_in_one;                                  ///< the weight of the first of these, if there is one
};

/// Gradients, one for each weight, with elements that are NaN or infinite.
struct NonfiniteGradients {
  std::int64_t count = 0;
  std::string first;  ///< the weight of the first of them, in the order of the model file; empty if there is none
};

/// Looks for them; all ranks have the same gradients.
template <class Real>
NonfiniteGradients find_nonfinite(const ModelConfig& config, const WeightArray<Real>& gradients);

/// Throws VerificationError if elements are NaN or infinite, in one of the two or in both: what is not finite is not
/// verified. `precision`: of the run.
void require_agreement(const Verification& verification, Precision precision);
void require_agreement(const GradientVerification& verification, Precision precision);

/// Throws UsageError if the reference would take too long for `batch` sequences.
void require_verifiable(const ModelConfig& config, std::int64_t batch, std::int64_t length,
                        bool with_gradients = false);

/// The reference runs on rank 0, in double precision. Collective; all ranks return the same.
template <class Real>
Verification verify(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                    const Array<const Real***>& hidden_states);

/// The same of loss and gradients, which are those of `targets` [batch, local tokens].
template <class Real>
GradientVerification verify_gradients(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                                      const Array<const std::int32_t**>& targets, double loss,
                                      const WeightArray<Real>& gradients);

}  // namespace bsbr::harness
