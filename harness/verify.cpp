// Comparing a result with the reference: everything is brought to rank 0.
#include "harness/verify.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

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

// What the reference computes for gradients, in forward passes: that of the loss, another to begin from, each layer
// twice again, and the gradient, which is two. And in logits.
constexpr double gradient_forwards = 7, gradient_heads = 4;

/// One sequence, `width` elements for each token, on rank 0; `mine`: this rank's tokens of it.
template <class Value>
std::vector<Value> gather(const Sequence& sequence, const Value* mine, std::int64_t width) {
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < sequence.ranks(); ++rank) {
    counts.push_back((sequence.first_token_of(rank + 1) - sequence.first_token_of(rank)) * width);
  }
  return parallel::gather_on_first(mine, counts, sequence.comm());
}

template <class Real>
reference::WeightMap weight_map(const Weights<Real>& weights) {
  const auto data = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), weights.data());
  reference::WeightMap map;
  WeightLayout(weights.config()).for_each([&](const WeightInfo& info, std::int64_t offset) {
    const std::int64_t columns = info.shape.back();
    reference::Matrix matrix(info.size() / columns, columns);
    const Real* begin = data.data() + offset;
    std::copy(begin, begin + info.size(), matrix.values.begin());
    map.emplace(info.name, std::move(matrix));
  });
  return map;
}

/// What comparing elements of the result and of the reference has shown.
struct Comparison {
  double largest_difference = 0, largest_value = 0;  // of those that are finite in both; the value is the reference's
  bool in_both = false, in_one = false;              // elements that are NaN or infinite
};

template <class Real>
Comparison compare(const Real* found, const double* expected, std::int64_t count) {
  Comparison result;
  for (std::int64_t i = 0; i < count; ++i) {
    const bool finite = std::isfinite(found[i]), expected_finite = std::isfinite(expected[i]);
    result.in_both |= !finite && !expected_finite;
    result.in_one |= finite != expected_finite;
    if (!finite || !expected_finite) continue;
    result.largest_difference =
        std::max(result.largest_difference, std::abs(static_cast<double>(found[i]) - expected[i]));
    result.largest_value = std::max(result.largest_value, std::abs(expected[i]));
  }
  return result;
}

/// One hidden state.
void add(const Comparison& state, TokenPlace place, Verification& verification) {
  verification.largest_difference = std::max(verification.largest_difference, state.largest_difference);
  verification.largest_value = std::max(verification.largest_value, state.largest_value);
  if (state.in_one && verification.nonfinite_in_one++ == 0) verification.first_in_one = place;
  if (state.in_both && !state.in_one) ++verification.nonfinite_in_both;
}

// ---- Gradients ------------------------------------------------------------------------------------------------------

constexpr double least_scale = 1e-3;  // of the largest element of all gradients

template <class Value, class Item>
void append(const std::vector<Item>& items, std::vector<Value>& all) {
  all.insert(all.end(), items.begin(), items.end());
}

/// The whole batch, on rank 0; `targets` are on the host.
reference::Batch gather_batch(const Sequence& sequence, const Tokens& tokens,
                              const HostArray<const std::int32_t**>& targets) {
  const std::int64_t local = sequence.local_tokens();
  reference::Batch batch;
  batch.length = sequence.length();
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    append(gather(sequence, tokens.ids.data() + row * local, 1), batch.ids);
    append(gather(sequence, targets.data() + row * local, 1), batch.targets);
    if (tokens.mask) append(gather(sequence, tokens.mask->data() + row * local, 1), batch.mask);
  }
  return batch;
}

/// `found`: the gradients of all weights, one after the other as `layout` says.
template <class Real>
void compare_gradients(const WeightLayout& layout, const Real* found, const reference::WeightMap& expected,
                       GradientVerification& verification) {
  std::vector<std::pair<std::string, Comparison>> weights;
  double largest = 0;  // element of all
  layout.for_each([&](const WeightInfo& info, std::int64_t offset) {
    weights.emplace_back(info.name, compare(found + offset, expected.at(info.name).values.data(), info.size()));
    largest = std::max(largest, weights.back().second.largest_value);
  });
  for (const auto& [name, weight] : weights) {
    if (weight.in_one && verification.nonfinite_in_one++ == 0) verification.first_in_one = name;
    if (weight.in_both && !weight.in_one) ++verification.nonfinite_in_both;
    if (weight.largest_difference == 0) continue;
    const double difference = weight.largest_difference / std::max(weight.largest_value, least_scale * largest);
    if (difference <= verification.largest_relative_difference) continue;
    verification.largest_relative_difference = difference;
    verification.worst = name;
  }
}

/// Of rank 0, on all ranks.
void broadcast(GradientVerification& verification, MPI_Comm comm) {
  for (double* number : {&verification.loss_difference, &verification.largest_relative_difference})
    parallel::broadcast(number, sizeof *number, comm);
  for (std::int64_t* count : {&verification.nonfinite_in_both, &verification.nonfinite_in_one})
    parallel::broadcast(count, sizeof *count, comm);
  for (std::string* name : {&verification.worst, &verification.first_in_one}) parallel::broadcast(*name, comm);
}

// ---- Errors ---------------------------------------------------------------------------------------------------------

/// `what`: what holds the elements, such as "hidden state"; `first`: which one is the first that differs.
void require_finite(std::int64_t in_one, std::int64_t in_both, const std::string& what, const std::string& first,
                    Precision precision) {
  const std::string hint = precision != Precision::float64 ? "--precision double has a wider range" : "";
  if (in_one == 0 && in_both == 0) return;
  if (in_one == 0) {
    throw VerificationError(
        "--verify: " + show_several(in_both, what) +
            " with elements that are NaN or infinite in the result and in the reference, which cannot be compared",
        hint);
  }
  throw VerificationError("--verify: " + show_several(in_one, what) +
                              " with elements that are NaN or infinite in the result or in the reference, but not in "
                              "both; first " +
                              first,
                          hint);
}

}  // namespace

void Verification::add(const Verification& other, std::int64_t first_row) {
  largest_difference = std::max(largest_difference, other.largest_difference);
  largest_value = std::max(largest_value, other.largest_value);
  if (nonfinite_in_one == 0) first_in_one = {other.first_in_one.batch + first_row, other.first_in_one.token};
  nonfinite_in_both += other.nonfinite_in_both;
  nonfinite_in_one += other.nonfinite_in_one;
}

void require_verifiable(const ModelConfig& config, std::int64_t batch, std::int64_t length, bool with_gradients) {
  const double tokens = static_cast<double>(batch) * static_cast<double>(length);
  const std::string hint = with_gradients ? "use --max-tokens, or --length with a smaller --batch" : "use --max-tokens";
  if (tokens > static_cast<double>(most_tokens)) {
    throw UsageError("--verify: " + show_number("%.0f", tokens) + " tokens are more than the " +
                         std::to_string(most_tokens) + " that the reference is run for",
                     hint);
  }
  const double forward = forward_flops(config, batch, length), head = head_flops(config, batch, length);
  if ((with_gradients ? gradient_forwards * forward + gradient_heads * head : forward) > most_flops) {
    throw UsageError("--verify: the reference would take too long for a model of this size and " +
                         show_number("%.0f", tokens) + " tokens",
                     hint);
  }
}

void require_agreement(const Verification& verification, Precision precision) {
  const auto& [row, token] = verification.first_in_one;
  require_finite(verification.nonfinite_in_one, verification.nonfinite_in_both, "hidden state",
                 "at token " + std::to_string(token) + " of sequence " + std::to_string(row), precision);
}

void require_agreement(const GradientVerification& verification, Precision precision) {
  require_finite(verification.nonfinite_in_one, verification.nonfinite_in_both, "gradient",
                 "that of " + verification.first_in_one, precision);
}

template <class Real>
Verification verify(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                    const Array<const Real***>& hidden_states) {
  const auto states = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), hidden_states);
  const auto width = static_cast<std::int64_t>(states.extent(2)), local = sequence.local_tokens();
  Verification verification;
  reference::WeightMap map;
  parallel::agree(sequence.comm(), [&] {
    if (sequence.rank() == 0) map = weight_map(weights);
  });
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    const auto found = gather(sequence, states.data() + row * local * width, width);
    const auto ids = gather(sequence, tokens.ids.data() + row * local, 1);
    const auto mask = tokens.mask ? gather(sequence, tokens.mask->data() + row * local, 1) : reference::Mask();
    parallel::agree(sequence.comm(), [&] {
      if (sequence.rank() != 0) return;
      const reference::Matrix expected =
          reference::forward(weights.config(), map, {ids.begin(), ids.end()}, mask, {}, weights.rounding())
              .hidden_states;
      for (std::int64_t token = 0; token < expected.rows; ++token) {
        const auto begin = static_cast<std::size_t>(token * width);
        add(compare(&found[begin], &expected.values[begin], width), {row, token}, verification);
      }
    });
  }
  parallel::broadcast(&verification, sizeof verification, sequence.comm());
  return verification;
}

template <class Real>
GradientVerification verify_gradients(const Weights<Real>& weights, const Sequence& sequence, const Tokens& tokens,
                                      const Array<const std::int32_t**>& targets, double loss,
                                      const WeightArray<Real>& gradients) {
  const auto targets_here = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), targets);
  const reference::Batch batch = gather_batch(sequence, tokens, targets_here);
  GradientVerification verification;
  parallel::agree(sequence.comm(), [&] {
    if (sequence.rank() != 0) return;
    const auto expected = reference::loss_and_gradients(weights.config(), weight_map(weights), batch);
    const auto found = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), gradients.data());
    verification.loss_difference = std::abs(loss - expected.loss.mean);
    compare_gradients(WeightLayout(weights.config()), found.data(), expected.gradients, verification);
  });
  broadcast(verification, sequence.comm());
  return verification;
}

template <class Real>
NonfiniteGradients find_nonfinite(const ModelConfig& config, const WeightArray<Real>& gradients) {
  const auto found = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), gradients.data());
  NonfiniteGradients nonfinite;
  WeightLayout(config).for_each([&](const WeightInfo& info, std::int64_t offset) {
    const Real* first = found.data() + offset;
    if (std::all_of(first, first + info.size(), [](Real number) { return std::isfinite(number); })) return;
    if (nonfinite.count++ == 0) nonfinite.first = info.name;
  });
  return nonfinite;
}

template Verification verify(const Weights<float>&, const Sequence&, const Tokens&, const Array<const float***>&);
template Verification verify(const Weights<double>&, const Sequence&, const Tokens&, const Array<const double***>&);
template GradientVerification verify_gradients(const Weights<float>&, const Sequence&, const Tokens&,
                                               const Array<const std::int32_t**>&, double, const WeightArray<float>&);
template GradientVerification verify_gradients(const Weights<double>&, const Sequence&, const Tokens&,
                                               const Array<const std::int32_t**>&, double, const WeightArray<double>&);
template NonfiniteGradients find_nonfinite(const ModelConfig&, const WeightArray<float>&);
template NonfiniteGradients find_nonfinite(const ModelConfig&, const WeightArray<double>&);

}  // namespace bsbr::harness
