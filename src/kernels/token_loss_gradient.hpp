// The gradient of the loss −log softmax(logits)[target] of tokens, logits = y·Wᵀ, with W the head's weight [vocabulary,
// D]:
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
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Ids [first, first + count) of the vocabulary.
struct VocabularyBlock {
  std::int64_t first, count;

  static std::int64_t number_of(std::int64_t vocabulary) {
    return (vocabulary + tuning::vocabulary_block - 1) / tuning::vocabulary_block;
  }
  static VocabularyBlock at(std::int64_t index, std::int64_t vocabulary) {
    const std::int64_t first = index * tuning::vocabulary_block;
    return {first, std::min<std::int64_t>(tuning::vocabulary_block, vocabulary - first)};
  }

  /// The rows of the block of a matrix [vocabulary, D].
  template <class Real>
  Array<Real**> rows_of(const Array<Real**>& matrix) const {
    return Array<Real**>(matrix.data() + first * static_cast<std::int64_t>(matrix.extent(1)),
                         static_cast<std::size_t>(count), matrix.extent(1));
  }
};

/// The head's weight [vocabulary, D] as this gradient reads it: block by block, forwards and backwards.
template <class Real>
class HeadWeight {
 public:
  struct Block {
    VocabularyBlock ids;
    ProductWeight<Real> logits;    // [ids, D]: y · Wᵀ
    ProductWeight<Real> gradient;  // [D, ids]: dlogits · W
  };

  /// On a GPU the matrix itself, which must live as long. Throws MemoryError.
  explicit HeadWeight(const Array<const Real**>& matrix)
      : m_vocabulary(static_cast<std::int64_t>(matrix.extent(0))),
        m_width(static_cast<std::int64_t>(matrix.extent(1))) {
    for (std::int64_t index = 0; index < VocabularyBlock::number_of(m_vocabulary); ++index) {
      const auto ids = VocabularyBlock::at(index, m_vocabulary);
      const auto rows = ids.rows_of(matrix);
      m_blocks.push_back({ids, ProductWeight<Real>(rows), ProductWeight<Real>(rows, Transpose::yes)});
    }
  }

  /// A matrix of the same shape takes the place of the one before.
  void assign(const Execution& execution, const Array<const Real**>& matrix) {
    for (Block& block : m_blocks) {
      block.logits.assign(execution, block.ids.rows_of(matrix));
      block.gradient.assign(execution, block.ids.rows_of(matrix));
    }
  }

  std::int64_t vocabulary() const { return m_vocabulary; }
  std::int64_t width() const { return m_width; }
  const std::vector<Block>& blocks() const { return m_blocks; }

  /// Bytes that it takes besides the array that it is made from.
  static std::int64_t bytes(std::int64_t vocabulary, std::int64_t width) {
    std::int64_t total = 0;
    for (std::int64_t index = 0; index < VocabularyBlock::number_of(vocabulary); ++index) {
      const std::int64_t ids = VocabularyBlock::at(index, vocabulary).count;
      total += ProductWeight<Real>::bytes(ids, width) + ProductWeight<Real>::bytes(width, ids);
    }
    return total;
  }

 private:
  std::int64_t m_vocabulary, m_width;
  std::vector<Block> m_blocks;
};

/// The widest row of the chain of products, for its PanelBuffers.
inline std::int64_t head_panel_width(std::int64_t vocabulary, std::int64_t width) {
  return std::max(width, std::min<std::int64_t>(vocabulary, tuning::vocabulary_block));
}

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

/// logits [block's ids] of one row become their gradient, and `kept` [block's ids] gets it, too.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void logits_to_gradient(const Member& team, const VocabularyBlock& ids, std::int32_t target,
                                               double log_sum, Real scale, Real* logits, Real* kept) {
  const auto width = static_cast<int>(ids.count);
  if (target < 0) {
    for_each(team, width, [&](const int i) { kept[i] = logits[i] = 0; });
    return;
  }
  // In two parts, since the difference of two large floats would be rounded as they are.
  const auto high = static_cast<Real>(log_sum);
  const auto low = static_cast<Real>(log_sum - static_cast<double>(high));
  const auto hit = static_cast<std::int64_t>(target) - ids.first;
  for_each(team, width, [&](const int i) {
    const Real power = (logits[i] - high) - low;
    const Real probability = exp_nonpositive(power > 0 ? Real(0) : power);  // NaN stays NaN
    kept[i] = logits[i] = (i == hit ? probability - 1 : probability) * scale;
  });
}

/// The rows of a leaf through one block of the vocabulary: `logit_gradient` [rows, ids], y_gradient += · W.
template <class Real>
void add_block_gradient(const Execution& execution, const PanelBuffers<Real>& panels,
                        const typename HeadWeight<Real>::Block& block, const Array<const Real**>& y,
                        const LossTokens& tokens, Real scale, const Array<Real**>& logit_gradient,
                        const Array<Real**>& y_gradient) {
  const auto width = static_cast<int>(y.extent(1));
  const VocabularyBlock ids = block.ids;
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t row, Real* data) {
    copy(team, width, &y(row, 0), data);
  };
  const auto differentiate = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t row, Real* data) {
    logits_to_gradient(team, ids, tokens.targets(row), tokens.log_sum(row), scale, data, &logit_gradient(row, 0));
  };
  const auto add = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t row, const Real* data) {
    if (tokens.targets(row) < 0) return;
    Real* target = &y_gradient(row, 0);
    for_each(team, width, [&](const int i) { target[i] += data[i]; });
  };
  panel_chain(execution, "bsbr::token_loss_gradient::logits", Rows{1, static_cast<std::int64_t>(y.extent(0))}, panels,
              load, Stage{block.logits, differentiate}, Stage{block.gradient, add});
}

}  // namespace detail

/// The gradient of scale · Σ loss over the rows of one leaf: y [rows, D]; y_gradient [rows, D] and weight_gradient
/// [vocabulary, D] are added to, the latter in the order of add_outer_product. Throws ShapeError if shapes do not fit.
template <class Real>
void add_token_loss_gradient(const Execution& execution, const PanelBuffers<Real>& panels,
                             const OuterProductBuffers<Real>& outer, const LogitGradientBuffer<Real>& logits,
                             const HeadWeight<Real>& head, const std::type_identity_t<Array<const Real**>>& y,
                             const LossTokens& tokens, double scale, const Array<Real**>& y_gradient,
                             const Array<Real**>& weight_gradient) {
  const std::size_t rows = y.extent(0);
  if (tokens.targets.extent(0) != rows || tokens.log_sum.extent(0) != rows || y_gradient.extent(0) != rows) {
    throw ShapeError("a loss has " + std::to_string(rows) + " rows of hidden states, " +
                     std::to_string(y_gradient.extent(0)) + " of their gradient, " +
                     std::to_string(tokens.targets.extent(0)) + " targets and " +
                     std::to_string(tokens.log_sum.extent(0)) + " sums");
  }
  if (rows == 0) return;
  for (const auto& block : head.blocks()) {
    const auto logit_gradient = logits.of(static_cast<std::int64_t>(rows), block.ids.count);
    detail::add_block_gradient(execution, panels, block, y, tokens, static_cast<Real>(scale), logit_gradient,
                               y_gradient);
    add_outer_product(execution, outer, logit_gradient, y, block.ids.rows_of(weight_gradient));
  }
}

}  // namespace bsbr::kernels
