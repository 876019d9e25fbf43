// The gradient of the loss −log softmax(logits)[target] of tokens, logits = y·Wᵀ, with W the head's weight [vocab, D]:
//
//     dlogits = (softmax(logits) − onehot(target))·scale;  dy += dlogits·W;  dW += dlogitsᵀ·y
//
// The softmax is exp(logits − log_sum), with the logarithm of the row's sum that the forward has found. Logits are
// formed anew, those of one block of the vocabulary at a time, for the rows of one leaf: they are stored for no more
// than that. A row without a target gives exactly nothing.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "bsbr/error.hpp"
#include "kernels/compat.hpp"
#include "kernels/math.hpp"
#include "kernels/outer_product.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/product.hpp"
#include "kernels/rows.hpp"
#include "kernels/token_loss.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Room for the logits' gradient of a block of the vocabulary and the rows of a leaf: [rows, ids], dense.
template <class Real>
class LogitGradientBuffer {
 public:
  LogitGradientBuffer() = default;

  /// Throws MemoryError.
  LogitGradientBuffer(std::int64_t rows, std::int64_t vocabulary) {
    try {
      m_data = Array<Real*>(Kokkos::view_alloc(std::string("bsbr::logit_gradient"), Kokkos::WithoutInitializing),
                            elements(rows, vocabulary));
    } catch (const std::exception& error) {
      throw MemoryError("no memory for the gradient of the logits of " + std::to_string(rows) +
                        " tokens: " + error.what());
    }
  }

  static std::int64_t bytes(std::int64_t rows, std::int64_t vocabulary) {
    return elements(rows, vocabulary) * static_cast<std::int64_t>(sizeof(Real));
  }

  /// [rows, ids]. Throws ShapeError if there is not that much room.
  Array<Real**> of(std::int64_t rows, std::int64_t ids) const {
    if (rows * ids > static_cast<std::int64_t>(m_data.size())) {
      throw ShapeError("the gradient of " + std::to_string(ids) + " logits of " + std::to_string(rows) +
                       " tokens does not fit a buffer of " + std::to_string(m_data.size()) + " elements");
    }
    return Array<Real**>(m_data.data(), rows, ids);
  }

 private:
  static std::int64_t elements(std::int64_t rows, std::int64_t vocabulary) {
    return rows * std::min<std::int64_t>(vocabulary, tuning::vocabulary_block);
  }

  Array<Real*> m_data;
};

/// The tokens of a leaf whose loss is differentiated.
struct LossTokens {
  Array<const std::int32_t*> targets;  // [rows]: an id, or −1: not counted
  Array<const double*> log_sum;        // [rows]: log Σ exp(logits); of rows that are not counted it may be anything
};

namespace detail {

/// logits [ids] of one row become their gradient, and `kept` [ids] gets it, too. `hit`: the target's place among them.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void logits_to_gradient(const Member& team, int ids, std::int64_t hit, double log_sum,
                                               Real scale, Real* logits, Real* kept) {
  // In two parts, since the difference of two large floats would be rounded as they are.
  const auto high = static_cast<Real>(log_sum);
  const auto low = static_cast<Real>(log_sum - static_cast<double>(high));
  for_each(team, ids, [&](const int i) {
    const Real power = (logits[i] - high) - low;
    const Real probability = exp_nonpositive(power > 0 ? Real(0) : power);  // NaN stays NaN
    kept[i] = logits[i] = (i == hit ? probability - 1 : probability) * scale;
  });
}

/// The rows of a leaf through the block of the head that begins with id `first`: its logits' gradient becomes
/// logit_gradient [rows, ids], and y_gradient += · W.
template <class Real>
void add_block_gradient(const Execution& execution, const PanelBuffers<Real>& panels, std::int64_t first,
                        const ProductWeight<Real>& block, const ProductWeight<Real>& transposed,
                        const Array<const Real**>& y, const LossTokens& tokens, Real scale,
                        const Array<Real**>& logit_gradient, const Array<Real**>& y_gradient) {
  const auto width = static_cast<int>(y.extent(1)), ids = static_cast<int>(block.out());
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t row, Real* data) {
    copy(team, width, &y(row, 0), data);
  };
  const auto differentiate = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t row, Real* data) {
    const std::int64_t target = tokens.targets(row);
    Real* kept = &logit_gradient(row, 0);
    if (target < 0) return for_each(team, ids, [&](const int i) { kept[i] = data[i] = 0; });
    logits_to_gradient(team, ids, target - first, tokens.log_sum(row), scale, data, kept);
  };
  const auto add = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t row, const Real* data) {
    if (tokens.targets(row) < 0) return;
    Real* target = &y_gradient(row, 0);
    for_each(team, width, [&](const int i) { target[i] += data[i]; });
  };
  panel_chain(execution, "bsbr::token_loss_gradient::logits", Rows{1, static_cast<std::int64_t>(y.extent(0))}, panels,
              load, Stage{block, differentiate}, Stage{transposed, add});
}

}  // namespace detail

/// The gradient of scale · Σ loss over the rows of one leaf, y [rows, D]: y_gradient [rows, D] and weight_gradient
/// [vocab, D] are added to, the latter in the order of add_outer_product. `head` and `transposed_head` are
/// vocabulary_blocks() of the same matrix; the panels are token_loss_width() wide. Throws ShapeError if shapes do not
/// fit.
template <class Real>
void add_token_loss_gradient(const Execution& execution, const PanelBuffers<Real>& panels,
                             const OuterProductBuffers<Real>& outer, const LogitGradientBuffer<Real>& logits,
                             const std::vector<ProductWeight<Real>>& head,
                             const std::vector<ProductWeight<Real>>& transposed_head,
                             const std::type_identity_t<Array<const Real**>>& y, const LossTokens& tokens, double scale,
                             const Array<Real**>& y_gradient, const Array<Real**>& weight_gradient) {
  const std::size_t rows = y.extent(0), width = y.extent(1);
  if (tokens.targets.extent(0) != rows || tokens.log_sum.extent(0) != rows || y_gradient.extent(0) != rows) {
    throw ShapeError("a loss has " + std::to_string(rows) + " rows of hidden states, " +
                     std::to_string(y_gradient.extent(0)) + " of their gradient, " +
                     std::to_string(tokens.targets.extent(0)) + " targets and " +
                     std::to_string(tokens.log_sum.extent(0)) + " sums");
  }
  if (rows == 0) return;
  std::int64_t first = 0;
  for (std::size_t index = 0; index < head.size(); ++index) {
    const std::int64_t ids = head[index].out();
    const auto logit_gradient = logits.of(static_cast<std::int64_t>(rows), ids);
    detail::add_block_gradient(execution, panels, first, head[index], transposed_head[index], y, tokens,
                               static_cast<Real>(scale), logit_gradient, y_gradient);
    add_outer_product(execution, outer, logit_gradient, y,
                      Array<Real**>(weight_gradient.data() + first * static_cast<std::int64_t>(width),
                                    static_cast<std::size_t>(ids), width));
    first += ids;
  }
}

}  // namespace bsbr::kernels
