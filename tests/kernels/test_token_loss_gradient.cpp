// The gradient of the loss through the head: against plain loops and central differences.
#include "kernels/token_loss_gradient.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "bsbr/error.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t block = kernels::tuning::vocabulary_block;

/// Rows of one leaf, and what is there before.
struct LossProblem {
  std::int64_t rows, vocab, width;
  std::vector<double> y, weight;      // [rows, width], [vocab, width]
  std::vector<std::int64_t> targets;  // [rows]
  std::vector<double> dy, d_weight;
  double scale = 0.125;

  LossProblem(std::int64_t count, std::int64_t ids, std::int64_t columns)
      : rows(count),
        vocab(ids),
        width(columns),
        y(in_float(random_matrix(count, columns, 71).values)),
        weight(in_float(random_matrix(ids, columns, 72).values)),
        targets(random_ids(count, ids, 73)),
        dy(in_float(random_matrix(count, columns, 74).values)),
        d_weight(in_float(random_matrix(ids, columns, 75).values)) {
    for (std::size_t t = 2; t < targets.size(); t += 5) targets[t] = -1;
  }

  /// Σ_i y[t, i] · weight[id, i]
  double logit(std::int64_t t, std::int64_t id) const {
    double sum = 0;
    for (std::int64_t i = 0; i < width; ++i)
      sum += y[static_cast<std::size_t>(t * width + i)] * weight[static_cast<std::size_t>(id * width + i)];
    return sum;
  }

  double log_sum(std::int64_t t) const {
    double largest = -1e300, sum = 0;
    for (std::int64_t id = 0; id < vocab; ++id) largest = std::max(largest, logit(t, id));
    for (std::int64_t id = 0; id < vocab; ++id) sum += std::exp(logit(t, id) - largest);
    return largest + std::log(sum);
  }

  /// scale · Σ of the counted rows' losses
  double loss() const {
    double sum = 0;
    for (std::int64_t t = 0; t < rows; ++t) {
      const std::int64_t target = targets[static_cast<std::size_t>(t)];
      if (target >= 0) sum += log_sum(t) - logit(t, target);
    }
    return scale * sum;
  }
};

/// dy, then d_weight.
std::vector<double> plain_loops(const LossProblem& of) {
  std::vector<double> dy = of.dy, d_weight = of.d_weight;
  for (std::int64_t t = 0; t < of.rows; ++t) {
    const std::int64_t target = of.targets[static_cast<std::size_t>(t)];
    if (target < 0) continue;
    const double log_sum = of.log_sum(t);
    for (std::int64_t id = 0; id < of.vocab; ++id) {
      const double gradient = of.scale * (std::exp(of.logit(t, id) - log_sum) - (id == target ? 1 : 0));
      for (std::int64_t i = 0; i < of.width; ++i) {
        const auto of_row = static_cast<std::size_t>(t * of.width + i),
                   of_id = static_cast<std::size_t>(id * of.width + i);
        dy[of_row] += gradient * of.weight[of_id];
        d_weight[of_id] += gradient * of.y[of_row];
      }
    }
  }
  dy.insert(dy.end(), d_weight.begin(), d_weight.end());
  return dy;
}

template <class Real>
std::vector<Real> by_kernel(const LossProblem& of) {
  std::vector<double> sums;
  for (std::int64_t t = 0; t < of.rows; ++t) {
    const bool counted = of.targets[static_cast<std::size_t>(t)] >= 0;
    sums.push_back(counted ? of.log_sum(t) : std::numeric_limits<double>::quiet_NaN());
  }
  const Array<const Real**> weight = to_device<Real**>(of.weight, of.vocab, of.width);  // which a GPU's products read
  const auto head = kernels::vocabulary_blocks(weight),
             transposed = kernels::vocabulary_blocks(weight, kernels::Transpose::yes);
  const kernels::PanelBuffers<Real> panels(kernels::token_loss_width(of.vocab, of.width));
  const kernels::OuterProductBuffers<Real> outer(
      kernels::OuterProductBuffers<Real>::elements(std::min(of.vocab, block), of.width));
  const kernels::LogitGradientBuffer<Real> logits(of.rows, of.vocab);
  const auto dy = to_device<Real**>(of.dy, of.rows, of.width),
             d_weight = to_device<Real**>(of.d_weight, of.vocab, of.width);
  kernels::add_token_loss_gradient(
      Execution(), panels, outer, logits, head, transposed, to_device<Real**>(of.y, of.rows, of.width),
      {to_device<std::int32_t*>(of.targets, of.rows), to_device<double*>(sums, of.rows)}, of.scale, dy, d_weight);
  Execution().fence();
  auto all = to_host(dy);
  const auto more = to_host(d_weight);
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

template <class Real>
class TokenLossGradient : public ::testing::Test {
 protected:
  void expect_right(const LossProblem& problem) {
    const auto exact = plain_loops(problem);
    const std::vector<std::int64_t> shape{static_cast<std::int64_t>(exact.size())};
    // In float logits are rounded at about 10 · 6e-8, and so are their probabilities.
    EXPECT_TRUE(all_close({by_kernel<Real>(problem), shape}, {exact, shape},
                          (sizeof(Real) == 8 ? 1e-13 : 2e-5) * std::max(1.0, largest_magnitude(exact))))
        << problem.rows << " rows, " << problem.vocab << " ids, width " << problem.width;
  }
};
TYPED_TEST_SUITE(TokenLossGradient, Reals, RealNames);

TYPED_TEST(TokenLossGradient, is_that_of_plain_loops) {
  for (const std::int64_t vocab : {1, 2, 31, 256}) {
    for (const std::int64_t rows : {0, 1, 3, 50}) this->expect_right(LossProblem(rows, vocab, 13));
  }
}

TYPED_TEST(TokenLossGradient, over_several_blocks_of_the_vocabulary_is_that_of_plain_loops) {
  for (const std::int64_t vocab : {block - 1, block, block + 1, 2 * block + 77})
    this->expect_right(LossProblem(9, vocab, 12));
}

TYPED_TEST(TokenLossGradient, over_more_rows_than_a_panel_is_that_of_plain_loops) {
  this->expect_right(LossProblem(kernels::tuning::panel_rows + 70, 19, 5));
}

TEST(CentralDifferences, of_the_loss_are_its_gradient) {
  LossProblem problem(4, 7, 5);
  problem.dy.assign(problem.dy.size(), 0);
  problem.d_weight.assign(problem.d_weight.size(), 0);
  std::vector<double> expected;
  for (auto* values : {&problem.y, &problem.weight}) {
    for (double& value : *values) {
      const double before = value, step = 1e-5;
      value = before + step;
      const double above = problem.loss();
      value = before - step;
      expected.push_back((above - problem.loss()) / (2 * step));
      value = before;
    }
  }
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(expected.size())};
  EXPECT_TRUE(all_close({by_kernel<double>(problem), shape}, {expected, shape}, 1e-9));
}

TYPED_TEST(TokenLossGradient, of_rows_that_are_not_counted_is_exactly_nothing) {
  LossProblem problem(6, 40, 9);
  problem.targets.assign(6, -1);
  auto before = problem.dy;
  before.insert(before.end(), problem.d_weight.begin(), problem.d_weight.end());
  EXPECT_TRUE(same_bits(widen(by_kernel<TypeParam>(problem)), before, 9));
}

/// What a row adds to its own gradient does not depend on the rows beside it.
TYPED_TEST(TokenLossGradient, of_a_row_has_the_bits_that_it_has_alone) {
  const LossProblem problem(11, block + 30, 14);
  const auto all = by_kernel<TypeParam>(problem);
  for (std::int64_t t = 0; t < problem.rows; ++t) {
    LossProblem one = problem;
    one.rows = 1;
    one.y = rows_of(problem.y, problem.width, t, 1);
    one.dy = rows_of(problem.dy, problem.width, t, 1);
    one.targets = {problem.targets[static_cast<std::size_t>(t)]};
    EXPECT_TRUE(same_bits(rows_of(by_kernel<TypeParam>(one), problem.width, 0, 1), rows_of(all, problem.width, t, 1),
                          problem.width));
  }
}

TYPED_TEST(TokenLossGradient, of_logits_that_are_far_apart_is_finite) {
  LossProblem problem(5, 30, 8);
  for (double& element : problem.y) element *= 64;
  const auto exact = plain_loops(problem);
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(exact.size())};
  EXPECT_TRUE(all_close({by_kernel<TypeParam>(problem), shape}, {exact, shape},
                        (sizeof(TypeParam) == 8 ? 1e-12 : 2e-3) * largest_magnitude(exact)));
}

TYPED_TEST(TokenLossGradient, of_shapes_that_do_not_fit_is_refused) {
  const Array<TypeParam**> weight("test::weight", 7, 5);
  const auto head = kernels::vocabulary_blocks<TypeParam>(weight),
             transposed = kernels::vocabulary_blocks<TypeParam>(weight, kernels::Transpose::yes);
  const Array<TypeParam**> y("test::y", 4, 5), d_weight("test::d_weight", 7, 5);
  const kernels::LossTokens tokens{Array<std::int32_t*>("test::targets", 3), Array<double*>("test::sums", 4)};
  EXPECT_THROW(kernels::add_token_loss_gradient(
                   Execution(), kernels::PanelBuffers<TypeParam>(7),
                   kernels::OuterProductBuffers<TypeParam>(kernels::OuterProductBuffers<TypeParam>::elements(7, 5)),
                   kernels::LogitGradientBuffer<TypeParam>(4, 7), head, transposed, y, tokens, 1, y, d_weight),
               ShapeError);
}

}  // namespace
}  // namespace bsbr::testing
