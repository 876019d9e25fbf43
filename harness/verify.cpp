// Comparing a result with the reference: everything is brought to rank 0, sequence by sequence.
#include "harness/verify.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "bsbr/parallel.hpp"
#include "config/weight_table.hpp"
#include "harness/format.hpp"
#include "harness/job/failure.hpp"
#include "reference/reference.hpp"

namespace bsbr::harness {
namespace {

// A minute or two of plain loops.
constexpr std::int64_t most_tokens = 4096;
constexpr double most_flops = 2e11;

/// One sequence, `width` elements for each token, on rank 0; `mine`: this rank's tokens of it.
template <class Value>
std::vector<Value> gather(const Sequence& sequence, const Value* mine, std::int64_t width) {
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < sequence.ranks(); ++rank) {
    counts.push_back((sequence.first_token_of(rank + 1) - sequence.first_token_of(rank)) * width);
  }
  return parallel::gather_on_first(mine, counts, sequence.comm());
}

/// Weights, or their gradients.
template <class Real>
reference::WeightMap weight_map(const ModelConfig& config, const Array<Real*>& elements) {
  const auto data = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), elements);
  reference::WeightMap map;
  WeightLayout(config).for_each([&](const WeightInfo& info, std::int64_t offset) {
    const std::int64_t columns = info.shape.back();
    reference::Matrix matrix(info.size() / columns, columns);
    const Real* begin = data.data() + offset;
    std::copy(begin, begin + info.size(), matrix.values.begin());
    map.emplace(info.name, std::move(matrix));
  });
  return map;
}

/// One hidden state [width] of the result and of the reference.
template <class Real>
void compare(const Real* found, const double* expected, std::int64_t width, TokenPlace place,
             Verification& verification) {
  bool in_both = false, in_one = false;
  for (std::int64_t i = 0; i < width; ++i) {
    const bool finite = std::isfinite(found[i]), expected_finite = std::isfinite(expected[i]);
    in_both |= !finite && !expected_finite;
    in_one |= finite != expected_finite;
    if (!finite || !expected_finite) continue;
    verification.largest_difference =
        std::max(verification.largest_difference, std::abs(static_cast<double>(found[i]) - expected[i]));
    verification.largest_value = std::max(verification.largest_value, std::abs(expected[i]));
  }
  if (in_one && verification.nonfinite_in_one++ == 0) verification.first_in_one = place;
  if (in_both && !in_one) ++verification.nonfinite_in_both;
}

/// All sequences of the batch, on rank 0.
reference::Batch gather(const Sequence& sequence, const Tokens& tokens) {
  const std::int64_t local = sequence.local_tokens();
  reference::Batch batch;
  batch.length = sequence.length();
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    const auto ids = gather(sequence, tokens.ids.data() + row * local, 1);
    batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
    if (!tokens.mask) continue;
    const auto mask = gather(sequence, tokens.mask->data() + row * local, 1);
    batch.mask.insert(batch.mask.end(), mask.begin(), mask.end());
  }
  batch.targets = reference::next_tokens(batch.ids, batch.mask, batch.length);
  return batch;
}

double largest_of(const reference::Matrix& matrix) {
  double largest = 0;
  for (const double value : matrix.values) largest = std::max(largest, std::abs(value));
  return largest;
}

/// The largest difference of two elements; infinite if one of them is not finite.
double largest_difference(const reference::Matrix& found, const reference::Matrix& expected) {
  double largest = 0;
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    const double difference = std::abs(found.values[i] - expected.values[i]);
    largest = std::max(largest, std::isfinite(difference) ? difference : std::numeric_limits<double>::infinity());
  }
  return largest;
}

GradientVerification compare(double loss, const reference::WeightMap& gradients,
                             const reference::LossAndGradients& expected) {
  constexpr double least_part = 1e-3;
  double largest = std::numeric_limits<double>::min();
  for (const auto& gradient : expected.gradients) largest = std::max(largest, largest_of(gradient.second));
  GradientVerification verification;
  const double difference = std::abs(loss - expected.loss.mean);
  verification.loss_difference = !std::isfinite(difference)   ? std::numeric_limits<double>::infinity()
                                 : expected.loss.counted == 0 ? difference
                                                              : difference / expected.loss.mean;
  for (const auto& [name, gradient] : expected.gradients) {
    const double relative =
        largest_difference(gradients.at(name), gradient) / std::max(largest_of(gradient), least_part * largest);
    if (relative <= verification.gradient_difference) continue;
    verification.gradient_difference = relative;
    verification.weight = name;
  }
  return verification;
}

}  // namespace

void require_verifiable(const ModelConfig& config, const Sequence& sequence) {
  const double tokens = static_cast<double>(sequence.batch()) * static_cast<double>(sequence.length());
  if (tokens > static_cast<double>(most_tokens)) {
    throw UsageError("--verify: " + show_number("%.0f", tokens) + " tokens are more than the " +
                         std::to_string(most_tokens) + " that the reference is run for",
                     "use --max-tokens");
  }
  if (forward_flops(config, sequence.batch(), sequence.length()) > most_flops) {
    throw UsageError("--verify: the reference would take too long for a model of this size and " +
                         show_number("%.0f", tokens) + " tokens",
                     "use --max-tokens");
  }
}

void require_agreement(const Verification& verification, Precision precision) {
  const std::string hint = precision == Precision::float32 ? "--precision double has a wider range" : "";
  if (verification.nonfinite_in_one == 0 && verification.nonfinite_in_both == 0) return;
  if (verification.nonfinite_in_one == 0) {
    throw VerificationError(
        "--verify: " + show_several(verification.nonfinite_in_both, "hidden state") +
            " with elements that are NaN or infinite in the result and in the reference, which cannot be compared",
        hint);
  }
  const auto& [row, token] = verification.first_in_one;
  throw VerificationError("--verify: " + show_several(verification.nonfinite_in_one, "hidden state") +
                              " with elements that are NaN or infinite in the result or in the reference, but not in "
                              "both; first at token " +
                              std::to_string(token) + " of sequence " + std::to_string(row),
                          hint);
}

template <class Real>
Verification verify(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                    const Array<const Real***>& hidden_states) {
  const auto states = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), hidden_states);
  const auto width = static_cast<std::int64_t>(states.extent(2)), local = sequence.local_tokens();
  Verification verification;
  reference::WeightMap map;
  parallel::agree(sequence.comm(), [&] {
    if (sequence.rank() == 0) map = weight_map(weights.config(), weights.data());
  });
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    const auto found = gather(sequence, states.data() + row * local * width, width);
    const auto ids = gather(sequence, tokens.ids.data() + row * local, 1);
    const auto mask = tokens.mask ? gather(sequence, tokens.mask->data() + row * local, 1) : reference::Mask();
    parallel::agree(sequence.comm(), [&] {
      if (sequence.rank() != 0) return;
      const reference::Matrix expected =
          reference::forward(weights.config(), map, {ids.begin(), ids.end()}, mask).hidden_states;
      for (std::int64_t token = 0; token < expected.rows; ++token) {
        compare(&found[static_cast<std::size_t>(token * width)],
                &expected.values[static_cast<std::size_t>(token * width)], width, {row, token}, verification);
      }
    });
  }
  parallel::broadcast(&verification, sizeof verification, sequence.comm());
  return verification;
}

template <class Real>
GradientVerification verify_gradients(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                                      const LossAndGradients<Real>& found) {
  const reference::Batch batch = gather(sequence, tokens);
  GradientVerification verification;
  parallel::agree(sequence.comm(), [&] {
    if (sequence.rank() != 0) return;
    const ModelConfig& config = weights.config();
    verification = compare(found.loss.loss, weight_map(config, found.gradients.data()),
                           reference::loss_and_gradients(config, weight_map(config, weights.data()), batch));
  });
  parallel::broadcast(&verification.loss_difference, sizeof(double), sequence.comm());
  parallel::broadcast(&verification.gradient_difference, sizeof(double), sequence.comm());
  parallel::broadcast(verification.weight, sequence.comm());
  return verification;
}

template Verification verify(const Weights<float>&, const Sequence&, const Tokens&, const Array<const float***>&);
template Verification verify(const Weights<double>&, const Sequence&, const Tokens&, const Array<const double***>&);
template GradientVerification verify_gradients(const Weights<float>&, const Sequence&, const Tokens&,
                                               const LossAndGradients<float>&);
template GradientVerification verify_gradients(const Weights<double>&, const Sequence&, const Tokens&,
                                               const LossAndGradients<double>&);

}  // namespace bsbr::harness
