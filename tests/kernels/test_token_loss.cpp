// Losses of tokens against plain loops in double, for vocabularies that do and do not fit the blocks; that a row's bits
// are its own.
#include "kernels/token_loss.hpp"

#include <gtest/gtest.h>

#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t block = kernels::tuning::vocabulary_block;

/// Rows and a head, and a target for each row: −1 is none.
struct Problem {
  std::int64_t batch, tokens, width, vocab_size;
  std::vector<double> y, head;  // [batch, tokens, width], [vocab, width]
  std::vector<std::int64_t> targets;

  /// deviation: of the logits. Of 5 rows one has no target; the first and the last id are among the targets.
  Problem(std::int64_t batch_size, std::int64_t row_tokens, std::int64_t columns, std::int64_t ids,
          double deviation = 3)
      : batch(batch_size), tokens(row_tokens), width(columns), vocab_size(ids) {
    y = in_float(random_matrix(batch * tokens, width, 1).values);
    head = in_float(random_matrix(vocab_size, width, 2, deviation / std::sqrt(static_cast<double>(width))).values);
    targets = random_ids(batch * tokens, vocab_size, 3);
    for (std::size_t i = 3; i < targets.size(); i += 5) targets[i] = -1;
    targets.front() = vocab_size - 1;
    targets.back() = 0;
  }

  template <class Real>
  Real logit(std::size_t row, std::int64_t id) const {
    Real sum = 0;
    for (std::int64_t k = 0; k < width; ++k)
      sum += static_cast<Real>(y[row * static_cast<std::size_t>(width) + static_cast<std::size_t>(k)]) *
             static_cast<Real>(head[static_cast<std::size_t>(id * width + k)]);
    return sum;
  }
};

/// Of each row, [batch · tokens].
template <class Real>
struct Losses {
  std::vector<Real> loss, log_sum;
};

/// Plain loops: the largest logit is subtracted, and that is all.
template <class Real>
Losses<Real> expected(const Problem& problem) {
  Losses<Real> all;
  for (std::size_t row = 0; row < problem.targets.size(); ++row) {
    std::vector<Real> logits;
    for (std::int64_t id = 0; id < problem.vocab_size; ++id) logits.push_back(problem.logit<Real>(row, id));
    const Real most = *std::max_element(logits.begin(), logits.end());
    Real sum = 0;
    for (const Real logit : logits) sum += std::exp(logit - most);
    all.log_sum.push_back(most + std::log(sum));
    const std::int64_t target = problem.targets[row];
    all.loss.push_back(target < 0 ? 0 : all.log_sum.back() - logits[static_cast<std::size_t>(target)]);
  }
  return all;
}

/// What the kernel makes of the rows [first, first + count) of all sequences.
template <class Real>
Losses<double> found(const Problem& problem, std::int64_t first, std::int64_t count) {
  const Execution execution;
  const Array<const Real**> head = to_device<Real**>(problem.head, problem.vocab_size, problem.width);
  const auto whole = to_device<Real***>(problem.y, problem.batch, problem.tokens, problem.width);
  const auto all_targets = to_device<std::int32_t**>(problem.targets, problem.batch, problem.tokens);
  const Array<Real***> y("test::y", problem.batch, count, problem.width);
  const Array<std::int32_t**> targets("test::targets", problem.batch, count);
  const std::pair<std::int64_t, std::int64_t> range(first, first + count);
  Kokkos::deep_copy(y, Kokkos::subview(whole, Kokkos::ALL(), range, Kokkos::ALL()));
  Kokkos::deep_copy(targets, Kokkos::subview(all_targets, Kokkos::ALL(), range));
  const Array<double**> loss("test::loss", problem.batch, count), log_sum("test::log_sum", problem.batch, count);
  Kokkos::deep_copy(loss, std::numeric_limits<double>::quiet_NaN());
  Kokkos::deep_copy(log_sum, std::numeric_limits<double>::quiet_NaN());
  const kernels::PanelBuffers<Real> panels(kernels::token_loss_width(problem.vocab_size, problem.width));
  const auto blocks = kernels::vocabulary_blocks<Real>(head);
  kernels::token_losses<Real>(execution, blocks, panels, y, targets, loss, log_sum);
  execution.fence();
  return {to_host(loss), to_host(log_sum)};
}

template <class Real>
class TokenLoss : public ::testing::Test {};
TYPED_TEST_SUITE(TokenLoss, Reals, RealNames);

template <class Real>
void expect_losses(const Problem& problem) {
  SCOPED_TRACE(std::to_string(problem.vocab_size) + " ids, width " + std::to_string(problem.width));
  const auto exact = expected<double>(problem);
  const auto naive = expected<Real>(problem);
  const auto actual = found<Real>(problem, 0, problem.tokens);
  const std::vector<std::int64_t> shape{problem.batch, problem.tokens};
  EXPECT_TRUE(all_close({actual.loss, shape}, {exact.loss, shape}, bound<Real>(exact.loss, naive.loss)));
  EXPECT_TRUE(all_close({actual.log_sum, shape}, {exact.log_sum, shape}, bound<Real>(exact.log_sum, naive.log_sum)));
}

TYPED_TEST(TokenLoss, agrees_with_plain_loops_for_vocabularies_of_any_size) {
  for (const std::int64_t ids : {std::int64_t{1}, std::int64_t{2}, std::int64_t{7}, std::int64_t{256}, block - 1, block,
                                 block + 1, 3 * block + 17}) {
    expect_losses<TypeParam>(Problem(2, 7, 12, ids));
  }
  expect_losses<TypeParam>(Problem(1, 2, 3, 200000));
}

TYPED_TEST(TokenLoss, agrees_with_plain_loops_for_widths_and_rows_that_fit_no_tile) {
  expect_losses<TypeParam>(Problem(1, 1, 1, 5));
  expect_losses<TypeParam>(Problem(3, 67, 33, 97));
  expect_losses<TypeParam>(Problem(1, 401, 16, 19));
  expect_losses<TypeParam>(Problem(1, 3, 700, block + 40));
}

TYPED_TEST(TokenLoss, is_finite_where_exponentials_of_the_logits_are_not) {
  expect_losses<TypeParam>(Problem(2, 9, 8, block + 100, 3000));
}

TYPED_TEST(TokenLoss, without_a_target_is_0) {
  const Problem problem(2, 11, 4, 9);
  const auto actual = found<TypeParam>(problem, 0, problem.tokens);
  for (std::size_t i = 0; i < problem.targets.size(); ++i) {
    if (problem.targets[i] < 0) {
      EXPECT_EQ(actual.loss[i], 0);
    } else {
      EXPECT_GT(actual.loss[i], 0);
    }
  }
}

TYPED_TEST(TokenLoss, of_one_id_is_0) {
  Problem problem(1, 5, 4, 1);
  for (const double loss : found<TypeParam>(problem, 0, 5).loss) EXPECT_EQ(loss, 0);
}

TYPED_TEST(TokenLoss, of_a_row_has_the_same_bits_in_any_company) {
  const Problem problem(2, 391, 40, block + 300);
  const auto all = found<TypeParam>(problem, 0, problem.tokens);
  for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 1}, {5, 1}, {190, 5}, {13, 200}}) {
    const auto some = found<TypeParam>(problem, first, count);
    for (std::int64_t row = 0; row < problem.batch; ++row) {
      const auto part = [&](const std::vector<double>& of_all) {
        return rows_of(of_all, 1, row * problem.tokens + first, count);
      };
      EXPECT_TRUE(same_bits(rows_of(some.loss, 1, row * count, count), part(all.loss), 1));
      EXPECT_TRUE(same_bits(rows_of(some.log_sum, 1, row * count, count), part(all.log_sum), 1));
    }
  }
}

TYPED_TEST(TokenLoss, of_a_row_with_nan_is_nan_and_of_no_other) {
  Problem problem(1, 6, 4, block + 3);
  problem.targets.assign(6, 2);
  problem.y[2 * 4 + 1] = std::numeric_limits<double>::quiet_NaN();
  const auto actual = found<TypeParam>(problem, 0, 6);
  for (std::size_t row = 0; row < 6; ++row) EXPECT_EQ(std::isnan(actual.loss[row]), row == 2) << row;
}

}  // namespace
}  // namespace bsbr::testing
