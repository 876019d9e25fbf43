// The loss of each token: logits = y·Wᵀ, with the head W [vocab, D], and
//
//     log_sum = log Σ_i exp(logits_i);   loss = log_sum − logits_target
//
// The logits of a row are formed block by block of the vocabulary, in the buffers of a panel chain, and are gone when
// the next block comes: of a row only the sum so far is kept. Its bits depend on the row and the weight alone.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/compat.hpp"
#include "kernels/math.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/rows.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

namespace detail {

/// The rows of a head [vocab, D] that make the block from id `first` on.
template <class Real>
Array<const Real**> vocabulary_rows(const Array<const Real**>& head, std::int64_t first) {
  const auto ids = static_cast<std::int64_t>(head.extent(0)), width = static_cast<std::int64_t>(head.extent(1));
  return Array<const Real**>(head.data() + first * width, std::min<std::int64_t>(tuning::vocabulary_block, ids - first),
                             width);
}

}  // namespace detail

/// The blocks of a head [vocab, D], of vocabulary_block ids each, the last one of fewer; as y·Wᵀ takes them, or
/// transposed, as gradients do.
template <class Real>
std::vector<ProductWeight<Real>> vocabulary_blocks(const Array<const Real**>& head, Transpose transpose = Transpose::no,
                                                   Rounding rounding = Rounding::none) {
  std::vector<ProductWeight<Real>> blocks;
  for (std::int64_t first = 0; first < static_cast<std::int64_t>(head.extent(0)); first += tuning::vocabulary_block)
    blocks.emplace_back(detail::vocabulary_rows(head, first), transpose, rounding);
  return blocks;
}

/// The head that they were made of has other values, or is another of the same shape: takes them.
template <class Real>
void repack_blocks(const Execution& execution, const Array<const Real**>& head,
                   std::vector<ProductWeight<Real>>& blocks) {
  std::int64_t first = 0;
  for (ProductWeight<Real>& block : blocks) {
    block.assign(execution, detail::vocabulary_rows(head, first));
    first += tuning::vocabulary_block;
  }
}

/// Bytes of these blocks.
template <class Real>
std::int64_t vocabulary_bytes(std::int64_t vocab_size, std::int64_t width, Transpose transpose = Transpose::no,
                              Rounding rounding = Rounding::none) {
  const auto bytes = [&](std::int64_t ids) {
    return transpose == Transpose::no ? ProductWeight<Real>::bytes(ids, width, rounding)
                                      : ProductWeight<Real>::bytes(width, ids, rounding);
  };
  const std::int64_t whole = vocab_size / tuning::vocabulary_block, rest = vocab_size % tuning::vocabulary_block;
  return whole * bytes(tuning::vocabulary_block) + (rest > 0 ? bytes(rest) : 0);
}

/// The width of the buffers that token_losses() and its gradient need.
inline std::int64_t token_loss_width(std::int64_t vocab_size, std::int64_t width) {
  return std::max(width, std::min<std::int64_t>(vocab_size, tuning::vocabulary_block));
}

namespace detail {

/// The largest of `count` numbers; any of them if one is NaN.
template <class Real>
inline Real largest([[maybe_unused]] const SerialTeam& team, int count, const Real* x) {
  constexpr int lanes = HostSizes::sum_lanes;
  Real most[lanes];
  std::fill_n(most, lanes, x[0]);
  int i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) most[lane] = most[lane] < x[i + lane] ? x[i + lane] : most[lane];
  }
  for (; i < count; ++i) most[0] = most[0] < x[i] ? x[i] : most[0];
  for (int lane = 1; lane < lanes; ++lane) most[0] = most[0] < most[lane] ? most[lane] : most[0];
  return most[0];
}

template <class Real>
KOKKOS_INLINE_FUNCTION Real largest(const TeamMember& team, int count, const Real* x) {
  Real most = x[0];
  Kokkos::parallel_reduce(
      Kokkos::TeamVectorRange(team, count), [&](const int i, Real& part) { part = part < x[i] ? x[i] : part; },
      Kokkos::Max<Real>(most));
  return most;
}

/// log Σ exp(x_i). NaN if an element is NaN or +∞, as all of a softmax of them would be.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION double log_sum_exp(const Member& team, int count, const Real* x) {
  const Real most = largest(team, count, x);
  const Real rest = sum<Real>(team, count, [&](const int i) { return exp_nonpositive(x[i] - most); });
  return static_cast<double>(most) + std::log(static_cast<double>(rest));
}

/// log(exp(a) + exp(b))
KOKKOS_INLINE_FUNCTION double log_of_both(double a, double b) {
  const double larger = a < b ? b : a, smaller = a < b ? a : b;
  return larger + std::log1p(std::exp(smaller - larger));
}

/// loss = log_sum − logit of the target, which has been put there; 0 where there is no target.
inline void subtract_target(const Execution& execution, const Array<const std::int32_t**>& targets,
                            const Array<const double**>& log_sum, const Array<double**>& loss) {
  const auto tokens = static_cast<std::int64_t>(loss.extent(1));
  const Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>> all(
      execution, 0, static_cast<std::int64_t>(loss.extent(0)) * tokens);
  Kokkos::parallel_for(
      "bsbr::token_loss::subtract_target", all, KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i / tokens, t = i % tokens;
        loss(row, t) = targets(row, t) < 0 ? 0 : log_sum(row, t) - loss(row, t);
      });
}

}  // namespace detail

/// loss and log_sum [batch, tokens] of rows y [batch, tokens, D]. Where there is no target, −1, the loss is 0. Targets
/// are below the vocabulary's size, which is that of all blocks of the head; the buffers are token_loss_width() wide.
template <class Real>
void token_losses(const Execution& execution, const std::vector<ProductWeight<Real>>& head,
                  const PanelBuffers<Real>& panels, const Array<const Real***>& y,
                  const Array<const std::int32_t**>& targets, const Array<double**>& loss,
                  const Array<double**>& log_sum) {
  const Rows rows{static_cast<std::int64_t>(y.extent(0)), static_cast<std::int64_t>(y.extent(1))};
  const auto width = static_cast<int>(y.extent(2));
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    copy(team, width, &y(batch, t, 0), data);
  };
  std::int64_t first = 0;
  for (const ProductWeight<Real>& block : head) {
    const auto count = static_cast<int>(block.out());
    const auto add = KOKKOS_LAMBDA(const Team& team, std::int64_t batch, std::int64_t t, const Real* logits) {
      const double of_block = detail::log_sum_exp(team, count, logits);
      const std::int64_t target = targets(batch, t) - first;
      for_each(team, 1, [&](int) {
        log_sum(batch, t) = first == 0 ? of_block : detail::log_of_both(log_sum(batch, t), of_block);
        if (target >= 0 && target < count) loss(batch, t) = static_cast<double>(logits[target]);
      });
    };
    panel_chain(execution, "bsbr::token_loss::logits", rows, panels, load, Stage{block, add});
    first += count;
  }
  detail::subtract_target(execution, targets, log_sum, loss);
}

}  // namespace bsbr::kernels
