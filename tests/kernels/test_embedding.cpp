// Embedding plus positions: against the reference, far out, and in parts; the gradient of the embedding.
#include "kernels/embedding.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

constexpr int position_tile = kernels::tuning::position_tile;
using reference::Matrix;

constexpr std::int64_t vocabulary = 31;

/// [batch, count, width] of the global positions from `first` on; `ids` are those of these positions, [batch, count].
template <class Real>
std::vector<Real> embed(const std::vector<std::int64_t>& ids, std::int64_t batch, std::int64_t first,
                        const Matrix& table) {
  const std::int64_t count = static_cast<std::int64_t>(ids.size()) / batch;
  const Array<Real***> x("test::x", batch, count, table.columns);
  Kokkos::deep_copy(x, std::numeric_limits<Real>::quiet_NaN());
  kernels::embed<Real>(Execution(), to_device<std::int32_t**>(ids, batch, count),
                       to_device<Real**>(table.values, table.rows, table.columns), first, x);
  Execution().fence();
  return to_host(x);
}

Matrix random_table(std::int64_t width) {
  auto table = random_matrix(vocabulary, width, 7);
  table.values = in_float(table.values);
  return table;
}

/// Rounding of sine or cosine and of the sum with a normal number, or nothing.
template <class Real>
constexpr double tolerance(double in_double) {
  return sizeof(Real) == sizeof(double) ? in_double : 5e-7;
}

template <class Real>
class Embedding : public ::testing::Test {};
TYPED_TEST_SUITE(Embedding, Reals, RealNames);

TYPED_TEST(Embedding, is_that_of_the_reference) {
  for (const std::int64_t width : {1, 2, 3, 5, 12, 64, 77, 512}) {  // odd: the last column is a sine
    for (const std::int64_t length : {1, position_tile - 1, position_tile, position_tile + 1, 3 * position_tile + 5}) {
      const auto table = random_table(width);
      const auto ids = random_ids(length, vocabulary, 8);
      EXPECT_TRUE(all_close({embed<TypeParam>(ids, 1, 0, table), {length, width}}, reference::embed(ids, table),
                            tolerance<TypeParam>(1e-12)))
          << "width " << width;
    }
  }
}

TYPED_TEST(Embedding, rows_of_a_batch_have_the_same_positions) {
  const std::int64_t width = 13, length = position_tile + 7;
  const auto table = random_table(width);
  const auto ids = random_ids(3 * length, vocabulary, 8);
  auto expected = Matrix(0, width);
  for (std::int64_t row = 0; row < 3; ++row) {
    const auto part = reference::embed({ids.begin() + row * length, ids.begin() + (row + 1) * length}, table);
    expected.values.insert(expected.values.end(), part.values.begin(), part.values.end());
    expected.rows += length;
  }
  EXPECT_TRUE(
      all_close({embed<TypeParam>(ids, 3, 0, table), {3 * length, width}}, expected, tolerance<TypeParam>(1e-12)));
}

TYPED_TEST(Embedding, without_tokens_is_empty) {
  EXPECT_TRUE(embed<TypeParam>({}, 1, 0, random_table(5)).empty());
  EXPECT_TRUE(embed<TypeParam>({}, 3, 1000, random_table(5)).empty());
}

/// P[t, column] with the angle in long double.
double exact_position(std::int64_t t, std::int64_t column, std::int64_t width) {
  const long double angle =
      static_cast<long double>(t) *
      std::pow(10000.L, -2.L * static_cast<long double>(column / 2) / static_cast<long double>(width));
  return static_cast<double>(column % 2 == 0 ? std::sin(angle) : std::cos(angle));
}

TYPED_TEST(Embedding, positions_in_the_millions_are_right) {
  for (const std::int64_t width : {1, 7, 64}) {
    for (const std::int64_t first : {1000003, 1 << 20, 2500000, 4194304 - 100}) {
      const std::int64_t length = position_tile + 50;
      const std::vector<std::int64_t> ids(static_cast<std::size_t>(length), 0);
      std::vector<double> expected;
      for (std::int64_t i = 0; i < length * width; ++i)
        expected.push_back(exact_position(first + i / width, i % width, width));
      const std::vector<std::int64_t> shape{length, width};
      EXPECT_TRUE(all_close({embed<TypeParam>(ids, 1, first, Matrix(1, width)), shape}, {expected, shape},
                            sizeof(TypeParam) == sizeof(double) ? 1e-9 : 7e-8))
          << "width " << width << ", from " << first;
    }
  }
}

TYPED_TEST(Embedding, bits_do_not_depend_on_where_a_rank_begins) {
  const std::int64_t width = 21, length = 2 * position_tile + 30;
  const auto table = random_table(width);
  for (const std::int64_t origin : {std::int64_t{0}, std::int64_t{3 << 20}}) {
    const auto ids = random_ids(length, vocabulary, 8);
    const auto whole = embed<TypeParam>(ids, 1, origin, table);
    for (std::int64_t cut = 1; cut < length; cut += 29) {
      auto joined = embed<TypeParam>({ids.begin(), ids.begin() + cut}, 1, origin, table);
      const auto rest = embed<TypeParam>({ids.begin() + cut, ids.end()}, 1, origin + cut, table);
      joined.insert(joined.end(), rest.begin(), rest.end());
      ASSERT_TRUE(same_bits(joined, whole, width)) << "cut at " << cut;
    }
  }
}

// ---- Gradient -------------------------------------------------------------------------------------------------------

/// before [vocab, width] += x_gradient of the tokens with each id, in their order.
template <class Real>
std::vector<Real> plain_gradient(const std::vector<std::int64_t>& ids, const Matrix& x_gradient, const Matrix& before) {
  std::vector<Real> result(before.values.begin(), before.values.end());
  for (std::size_t i = 0; i < x_gradient.values.size(); ++i) {
    const auto width = static_cast<std::size_t>(before.columns);
    result[static_cast<std::size_t>(ids[i / width]) * width + i % width] += static_cast<Real>(x_gradient.values[i]);
  }
  return result;
}

template <class Real>
void expect_gradient(std::int64_t vocab, std::int64_t tokens, std::int64_t width, std::int64_t different_ids) {
  auto ids = random_ids(tokens, different_ids, 9);
  for (auto& id : ids) id = vocab - 1 - id * (vocab / different_ids);  // all over the vocabulary, its last row, too
  const auto x_gradient = random_matrix(tokens, width, 10), before = random_matrix(vocab, width, 11);
  const auto result = to_device<Real**>(before.values, vocab, width);
  kernels::add_embedding_gradient(Execution(), to_device<std::int32_t*>(ids, tokens),
                                  to_device<Real**>(x_gradient.values, tokens, width), result);
  Execution().fence();
  EXPECT_TRUE(same_bits(to_host(result), plain_gradient<Real>(ids, x_gradient, before), width))
      << vocab << " ids, " << tokens << " tokens, width " << width;
}

TYPED_TEST(Embedding, gradient_adds_the_tokens_of_an_id_in_their_order_bit_by_bit) {
  for (const std::int64_t width : {1, 5, 64, 127, 129, 300}) {
    expect_gradient<TypeParam>(1, 77, width, 1);
    expect_gradient<TypeParam>(31, 500, width, 31);
    expect_gradient<TypeParam>(256, 500, width, 3);
  }
}

TYPED_TEST(Embedding, gradient_of_a_large_vocabulary_is_right_for_few_tokens) {
  expect_gradient<TypeParam>(200000, 1, 5, 1);
  expect_gradient<TypeParam>(200000, 40, 5, 31);
}

TYPED_TEST(Embedding, gradient_without_tokens_changes_nothing) { expect_gradient<TypeParam>(9, 0, 5, 9); }

}  // namespace
}  // namespace bsbr::testing
