// Gradients of softmax attention on tokens against plain loops, which are held against central differences: sizes that
// do not fit tiles, every causality and window, padding, and what may not change a bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <ostream>
#include <variant>

#include "kernels/token_softmax_gradient.hpp"
#include "support/device_arrays.hpp"
#include "support/masks.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::Window;
using kernels::WithinChunk;
using Visible = std::variant<WithinChunk, Window>;

constexpr std::int64_t query_tile = kernels::tuning::query_tile, key_tile = kernels::tuning::key_tile;
constexpr std::int64_t everything = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t surplus = 3;  // numbers between rows, which nobody may read or write
constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
constexpr double untouched = 77;

/// One call of the kernels. Numbers are held by float exactly; rows lie `surplus` numbers apart, with NaN between them.
struct Case {
  std::int64_t batch, heads, width, length;
  Visible visible;
  double scale;
  std::vector<double> query, key, value, output_gradient;  // [batch, length, heads · width + surplus]
  std::vector<std::uint8_t> real;                          // [batch, length]; empty: all

  std::int64_t row() const { return heads * width + surplus; }
  std::size_t place(std::int64_t b, std::int64_t t, std::int64_t head) const {
    return static_cast<std::size_t>((b * length + t) * row() + head * width);
  }
  bool is_real(std::int64_t b, std::int64_t s) const {
    return real.empty() || real[static_cast<std::size_t>(b * length + s)] != 0;
  }
};

std::ostream& operator<<(std::ostream& out, const Case& test) {
  out << "batch " << test.batch << ", heads " << test.heads << ", width " << test.width << ", length " << test.length;
  if (const auto* chunk = std::get_if<WithinChunk>(&test.visible))
    return out << ", causality " << static_cast<int>(chunk->causality) << ", chunks of " << chunk->chunk_size;
  return out << ", window " << std::get<Window>(test.visible).window;
}

/// Whether query t sees key s: the definition, token by token.
bool sees(const Visible& visible, std::int64_t t, std::int64_t s) {
  if (const auto* window = std::get_if<Window>(&visible)) return s <= t && t - s <= window->window;
  const auto& chunk = std::get<WithinChunk>(visible);
  if (t / chunk.chunk_size != s / chunk.chunk_size) return false;
  if (chunk.causality == Causality::causal) return s <= t;
  return chunk.causality != Causality::reference || s >= t;
}

/// Tokens of the last chunk that are missing, where they take part in the softmax.
std::int64_t missing(const Visible& visible, std::int64_t t, std::int64_t length) {
  const auto* chunk = std::get_if<WithinChunk>(&visible);
  if (chunk == nullptr || chunk->causality != Causality::reference) return 0;
  return std::max<std::int64_t>(0, (t / chunk->chunk_size + 1) * chunk->chunk_size - length);
}

std::vector<double> random_rows(const Case& test, std::uint64_t seed) {
  auto rows = in_float(random_matrix(test.batch * test.length, test.row(), seed).values);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::int64_t>(i) % test.row() >= test.heads * test.width) rows[i] = nan;
  }
  return rows;
}

struct Sizes {
  std::int64_t batch, heads, width, length;
};

Case make_case(const Sizes& sizes, const Visible& visible, double temperature = 1) {
  Case test{.batch = sizes.batch,
            .heads = sizes.heads,
            .width = sizes.width,
            .length = sizes.length,
            .visible = visible,
            .scale = 1.5 * kernels::score_scale<double>(sizes.width, temperature),
            .query = {},
            .key = {},
            .value = {},
            .output_gradient = {},
            .real = {}};
  test.query = random_rows(test, 1), test.key = random_rows(test, 2), test.value = random_rows(test, 3);
  test.output_gradient = random_rows(test, 4);
  return test;
}

/// Standard attention, each causality with chunks that fit no tile, and windows: of nothing but the token itself, of
/// one more, of some, and of more than there is.
std::vector<Visible> all_visible(std::int64_t length) {
  std::vector<Visible> all{Window{everything}, Window{0}, Window{1}, Window{key_tile / 2 + 3}, Window{length + 5}};
  for (const Causality causality :
       {Causality::causal, Causality::block_causal, Causality::bidirectional, Causality::reference})
    all.emplace_back(WithinChunk{causality, query_tile + 9, length});
  return all;
}

/// What the kernels compute, or the loops: rows as in a Case, log-sums and deltas [batch, heads, length]. own_delta,
/// own_query: by the pass that forms deltas itself.
template <class Real>
struct Results {
  std::vector<Real> output, log_sum, delta, query, key, value, own_delta, own_query;
};

// ---- Plain loops ----------------------------------------------------------------------------------------------------

/// The weights of one query, by key; 0 where it does not see the key. log_sum: to base 2.
template <class Real>
std::vector<Real> plain_weights(const Case& test, std::int64_t b, std::int64_t head, std::int64_t t, Real& log_sum) {
  const auto nulls = static_cast<Real>(missing(test.visible, t, test.length));
  std::vector<Real> scores(static_cast<std::size_t>(test.length), -std::numeric_limits<Real>::infinity());
  Real largest = nulls > 0 ? Real(0) : -std::numeric_limits<Real>::infinity();
  for (std::int64_t s = 0; s < test.length; ++s) {
    if (!sees(test.visible, t, s) || !test.is_real(b, s)) continue;
    Real score = 0;
    for (std::size_t k = 0; k < static_cast<std::size_t>(test.width); ++k)
      score += static_cast<Real>(test.query[test.place(b, t, head) + k]) *
               static_cast<Real>(test.key[test.place(b, s, head) + k]);
    scores[static_cast<std::size_t>(s)] = score * static_cast<Real>(test.scale);
    largest = std::max(largest, scores[static_cast<std::size_t>(s)]);
  }
  log_sum = -std::numeric_limits<Real>::infinity();
  if (largest == log_sum) return std::vector<Real>(scores.size(), Real(0));
  Real total = nulls > 0 ? nulls * std::exp(-largest) : Real(0);
  for (const Real score : scores) total += std::exp(score - largest);
  log_sum = (largest + std::log(total)) / std::log(Real(2));
  for (Real& score : scores) score = std::exp(score - largest) / total;
  return scores;
}

/// The gradients of one query, and what it adds to those of keys and values.
template <class Real>
void plain_query(const Case& test, std::int64_t b, std::int64_t head, std::int64_t t, Results<Real>& results) {
  const auto of_query = static_cast<std::size_t>((b * test.heads + head) * test.length + t);
  const auto weights = plain_weights<Real>(test, b, head, t, results.log_sum[of_query]);
  const auto width = static_cast<std::size_t>(test.width), here = test.place(b, t, head);
  const auto weight_gradient = [&](std::int64_t s) {
    Real product = 0;
    for (std::size_t k = 0; k < width; ++k)
      product +=
          static_cast<Real>(test.output_gradient[here + k]) * static_cast<Real>(test.value[test.place(b, s, head) + k]);
    return product;
  };
  Real delta = 0;
  for (std::int64_t s = 0; s < test.length; ++s) {
    if (weights[static_cast<std::size_t>(s)] != 0) delta += weights[static_cast<std::size_t>(s)] * weight_gradient(s);
  }
  results.delta[of_query] = delta;
  for (std::int64_t s = 0; s < test.length; ++s) {
    const Real weight = weights[static_cast<std::size_t>(s)];
    if (weight == 0) continue;
    const Real score_gradient = weight * (weight_gradient(s) - delta) * static_cast<Real>(test.scale);
    const std::size_t there = test.place(b, s, head);
    for (std::size_t k = 0; k < width; ++k) {
      results.output[here + k] += weight * static_cast<Real>(test.value[there + k]);
      results.query[here + k] += score_gradient * static_cast<Real>(test.key[there + k]);
      results.key[there + k] += score_gradient * static_cast<Real>(test.query[here + k]);
      results.value[there + k] += weight * static_cast<Real>(test.output_gradient[here + k]);
    }
  }
}

template <class Real>
Results<Real> plain_loops(const Case& test) {
  std::vector<Real> rows(test.query.size(), Real(untouched));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::int64_t>(i) % test.row() < test.heads * test.width) rows[i] = 0;
  }
  const std::vector<Real> of_queries(static_cast<std::size_t>(test.batch * test.heads * test.length));
  Results<Real> results{rows, of_queries, of_queries, rows, rows, rows, {}, {}};
  for (std::int64_t b = 0; b < test.batch; ++b) {
    for (std::int64_t head = 0; head < test.heads; ++head) {
      for (std::int64_t t = 0; t < test.length; ++t) plain_query(test, b, head, t, results);
    }
  }
  return results;
}

// ---- The kernels ----------------------------------------------------------------------------------------------------

/// Tokens [begin, end) of rows [batch, length, row], on the device.
template <class Real>
Array<Real***> tokens_of(const Case& test, const std::vector<double>& rows, std::int64_t begin, std::int64_t end) {
  std::vector<double> some;
  for (std::int64_t b = 0; b < test.batch; ++b) {
    const auto part = rows_of(rows, test.row(), b * test.length + begin, end - begin);
    some.insert(some.end(), part.begin(), part.end());
  }
  return to_device<Real***>(some, test.batch, end - begin, test.row());
}

/// Without the surplus numbers.
template <class Real>
Strided<Real***> columns(const Case& test, const Array<Real***>& rows) {
  return Kokkos::subview(rows, Kokkos::ALL(), Kokkos::ALL(), std::make_pair(std::int64_t{0}, test.heads * test.width));
}

template <class Real>
kernels::KeysAndValues<Real> keys_of(const Case& test, std::int64_t begin, std::int64_t end) {
  kernels::KeysAndValues<Real> keys{columns<Real>(test, tokens_of<Real>(test, test.key, begin, end)),
                                    columns<Real>(test, tokens_of<Real>(test, test.value, begin, end)),
                                    {},
                                    begin};
  if (test.real.empty()) return keys;
  std::vector<std::uint8_t> mask;
  for (std::int64_t b = 0; b < test.batch; ++b) {
    const auto part = rows_of(test.real, 1, b * test.length + begin, end - begin);
    mask.insert(mask.end(), part.begin(), part.end());
  }
  keys.real = to_device<std::uint8_t**>(mask, test.batch, end - begin);
  return keys;
}

template <class Real>
Array<Real***> filled(std::int64_t batch, std::int64_t rows, std::int64_t width) {
  const Array<Real***> array("test::results", batch, rows, width);
  Kokkos::deep_copy(array, Real(untouched));
  return array;
}

/// The kernels on the whole sequence, with an output as token_softmax gives it.
template <class Real>
Results<Real> run(const Case& test) {
  const Execution execution;
  const auto rows = [&] { return filled<Real>(test.batch, test.length, test.row()); };
  const auto of_queries = [&] { return filled<Real>(test.batch, test.heads, test.length); };
  const auto output = rows(), query = rows(), key = rows(), value = rows(), own_query = rows();
  const auto log_sum = of_queries(), delta = of_queries(), own_delta = of_queries();
  const kernels::SoftmaxTokens<Real> tokens{
      columns<Real>(test, tokens_of<Real>(test, test.query, 0, test.length)),
      columns<Real>(test, tokens_of<Real>(test, test.output_gradient, 0, test.length)),
      log_sum,
      delta,
      0,
      keys_of<Real>(test, 0, test.length)};
  const auto scale = static_cast<Real>(test.scale);
  std::visit(
      [&](const auto& visible) {
        kernels::token_softmax_with_log_sums<Real>(execution, "test::softmax", test.heads, visible, scale, tokens.query,
                                                   tokens.keys, columns(test, output), log_sum, 0, 0, test.length);
        kernels::token_deltas<Real>(execution, "test::deltas", columns(test, output), tokens.output_gradient, delta);
        kernels::token_query_gradients<Real>(execution, "test::query", test.heads, visible, scale, tokens,
                                             columns(test, query), 0, 0, test.length);
        kernels::token_query_gradients_and_deltas<Real>(execution, "test::query", test.heads, visible, scale, tokens,
                                                        own_delta, columns(test, own_query), 0, 0, test.length);
        kernels::token_key_gradients<Real>(execution, "test::key", test.heads, visible, scale, tokens,
                                           columns(test, key), columns(test, value), 0, 0, test.length);
      },
      test.visible);
  execution.fence();
  return {to_host(output), to_host(log_sum), to_host(delta),     to_host(query),
          to_host(key),    to_host(value),   to_host(own_delta), to_host(own_query)};
}

template <class Real>
void expect_close(const Case& test, const char* what, const std::vector<Real>& actual, const std::vector<double>& exact,
                  const std::vector<Real>& naive) {
  const auto width = actual.size() == test.query.size() ? test.row() : test.length;
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(actual.size()) / width, width};
  EXPECT_TRUE(all_close({actual, shape}, {exact, shape}, bound(exact, naive))) << what << "; " << test;
}

/// log_sum is −∞ where there is nothing to see, which is no number that could be near another.
template <class Real>
std::vector<Real> without_infinity(std::vector<Real> numbers) {
  std::replace(numbers.begin(), numbers.end(), -std::numeric_limits<Real>::infinity(), Real(-untouched));
  return numbers;
}

template <class Real>
void expect_right(const Case& test) {
  const auto actual = run<Real>(test);
  const auto exact = plain_loops<double>(test);
  const auto naive = plain_loops<Real>(test);
  expect_close(test, "output", actual.output, exact.output, naive.output);
  expect_close(test, "log_sum", without_infinity(actual.log_sum), without_infinity(exact.log_sum),
               without_infinity(naive.log_sum));
  expect_close(test, "delta", actual.delta, exact.delta, naive.delta);
  expect_close(test, "gradient of queries", actual.query, exact.query, naive.query);
  expect_close(test, "delta of the pass by queries", actual.own_delta, exact.delta, naive.delta);
  expect_close(test, "gradient of queries with its own deltas", actual.own_query, exact.query, naive.query);
  expect_close(test, "gradient of keys", actual.key, exact.key, naive.key);
  expect_close(test, "gradient of values", actual.value, exact.value, naive.value);
}

template <class Real>
class SoftmaxGradient : public ::testing::Test {};
TYPED_TEST_SUITE(SoftmaxGradient, Reals, RealNames);

// ---- Right ----------------------------------------------------------------------------------------------------------

/// Σ do · output, whose gradients are those of queries, keys and values.
double loss(const Case& test) {
  const auto results = plain_loops<double>(test);
  double sum = 0;
  for (std::size_t i = 0; i < results.output.size(); ++i) {
    if (!std::isnan(test.output_gradient[i])) sum += results.output[i] * test.output_gradient[i];
  }
  return sum;
}

void expect_derivative(const Case& test, std::vector<double> Case::*input, const std::vector<double>& gradient) {
  constexpr double step = 1e-5;  // cut off: step² = 1e-10; rounding of the difference: 1e-16 · loss / step
  for (std::size_t i = 0; i < (test.*input).size(); ++i) {
    if (std::isnan((test.*input)[i])) continue;
    Case above = test, below = test;
    (above.*input)[i] += step;
    (below.*input)[i] -= step;
    EXPECT_NEAR((loss(above) - loss(below)) / (2 * step), gradient[i], 1e-8) << test << ", number " << i;
  }
}

TEST(PlainSoftmaxGradient, is_that_of_central_differences) {
  constexpr std::int64_t length = 11;
  std::vector<Visible> all{Window{everything}, Window{0}, Window{3}};
  for (const Causality causality :
       {Causality::causal, Causality::block_causal, Causality::bidirectional, Causality::reference})
    all.emplace_back(WithinChunk{causality, 4, length});
  for (const Visible& visible : all) {
    for (const Padding padding : {Padding::none, Padding::holes, Padding::whole_chunks}) {
      auto test = make_case({2, 2, 3, length}, visible, 0.5);
      test.real = make_mask(padding, test.batch, length, 4);
      const auto gradients = plain_loops<double>(test);
      expect_derivative(test, &Case::query, gradients.query);
      expect_derivative(test, &Case::key, gradients.key);
      expect_derivative(test, &Case::value, gradients.value);
    }
  }
}

TYPED_TEST(SoftmaxGradient, every_range_of_keys_has_the_gradients_of_plain_loops) {
  for (const std::int64_t length : {3 * query_tile + 1, std::int64_t{1}, key_tile - 1, 2 * key_tile}) {
    for (const Visible& visible : all_visible(length)) expect_right<TypeParam>(make_case({2, 3, 5, length}, visible));
  }
}

TYPED_TEST(SoftmaxGradient, head_widths_need_not_fit_vectors) {
  constexpr std::int64_t length = query_tile + key_tile + 5;
  for (const std::int64_t width : {1, 3, 33, 64, 80, 128, 130}) {
    expect_right<TypeParam>(make_case({1, 2, width, length}, Window{everything}));
    expect_right<TypeParam>(make_case({1, 2, width, length}, WithinChunk{Causality::reference, 37, length}));
  }
}

TYPED_TEST(SoftmaxGradient, chunks_of_any_size_are_kept_apart) {
  constexpr std::int64_t length = 2 * query_tile + 13;
  for (const std::int64_t chunk_size : {std::int64_t{1}, std::int64_t{7}, key_tile, key_tile + 1, length + 9}) {
    for (const Causality causality : {Causality::causal, Causality::bidirectional, Causality::reference})
      expect_right<TypeParam>(make_case({1, 2, 9, length}, WithinChunk{causality, chunk_size, length}));
  }
}

TYPED_TEST(SoftmaxGradient, a_temperature_scales_the_scores) {
  constexpr std::int64_t length = 2 * query_tile + 3;
  for (const double temperature : {0.25, 3.})
    expect_right<TypeParam>(make_case({1, 2, 12, length}, Window{everything}, temperature));
}

/// Masks tokens; their keys and values hold what must not matter.
Case with_padding(Case test, Padding padding, std::int64_t chunk_size) {
  test.real = make_mask(padding, test.batch, test.length, chunk_size);
  for (std::int64_t b = 0; b < test.batch && !test.real.empty(); ++b) {
    for (std::int64_t s = 0; s < test.length; ++s) {
      if (test.is_real(b, s)) continue;
      const double junk[] = {nan, infinity, -infinity, 1e30};
      std::fill_n(&test.key[test.place(b, s, 0)], test.heads * test.width, junk[s % 4]);
      std::fill_n(&test.value[test.place(b, s, 0)], test.heads * test.width, junk[s / 4 % 4]);
    }
  }
  return test;
}

TYPED_TEST(SoftmaxGradient, padded_keys_are_left_out_whatever_they_hold_and_their_queries_are_not) {
  constexpr std::int64_t length = 2 * key_tile + query_tile + 5;
  for (const auto& padding : paddings) {
    SCOPED_TRACE(padding.name);
    for (const Visible& visible : all_visible(length))
      expect_right<TypeParam>(with_padding(make_case({3, 2, 5, length}, visible), padding.value, query_tile + 9));
  }
}

TYPED_TEST(SoftmaxGradient, where_nothing_is_to_be_seen_all_gradients_are_zero) {
  constexpr std::int64_t length = key_tile + 3;
  for (const Visible& visible : {Visible(Window{everything}), Visible(WithinChunk{Causality::causal, 7, length})}) {
    auto test = make_case({2, 2, 5, length}, visible);
    test.real.assign(static_cast<std::size_t>(test.batch * length), 0);
    const auto results = run<TypeParam>(test);
    for (const auto* rows : {&results.query, &results.key, &results.value, &results.own_query}) {
      for (std::size_t i = 0; i < rows->size(); ++i)
        EXPECT_EQ((*rows)[i], static_cast<std::int64_t>(i) % test.row() < 10 ? 0 : untouched) << i;
    }
    for (const TypeParam log_sum : results.log_sum) EXPECT_EQ(log_sum, -infinity);
  }
}

TYPED_TEST(SoftmaxGradient, a_query_that_sees_one_key_has_no_gradient_at_all) {
  constexpr std::int64_t length = query_tile + 7;
  const auto test = make_case({1, 2, 33, length}, Window{0});
  const auto results = run<TypeParam>(test);
  for (std::int64_t t = 0; t < length; ++t) {
    for (std::size_t i = 0; i < 66; ++i) {
      EXPECT_EQ(results.query[test.place(0, t, 0) + i], 0) << t;
      EXPECT_EQ(results.own_query[test.place(0, t, 0) + i], 0) << t;
      EXPECT_EQ(results.key[test.place(0, t, 0) + i], 0) << t;
      EXPECT_EQ(results.value[test.place(0, t, 0) + i],
                static_cast<TypeParam>(test.output_gradient[test.place(0, t, 0) + i]));
    }
  }
}

/// Query t is (1e4, 0, …), key s is (s mod 7 − 3, 0, …): scores are whole numbers from −3e4 to 3e4, exact in float, and
/// the largest share all of the weight.
TYPED_TEST(SoftmaxGradient, huge_scores_pick_the_largest) {
  constexpr std::int64_t length = query_tile + 2 * key_tile + 5;
  for (const Visible& visible : all_visible(length)) {
    auto test = make_case({1, 2, 5, length}, visible);
    test.scale = 1;
    for (std::int64_t t = 0; t < length; ++t) {
      for (std::int64_t head = 0; head < 2; ++head) {
        std::fill_n(&test.query[test.place(0, t, head)], 5, 0.);
        std::fill_n(&test.key[test.place(0, t, head)], 5, 0.);
        test.query[test.place(0, t, head)] = 1e4;
        test.key[test.place(0, t, head)] = static_cast<double>((t + head) % 7 - 3);
      }
    }
    auto magnitudes = test;
    for (double& number : magnitudes.output_gradient) number = std::abs(number);
    const auto results = run<TypeParam>(test);
    const auto exact = plain_loops<double>(test).value, largest = plain_loops<double>(magnitudes).value;
    // A log-sum between 2^15 and 2^16 is rounded by 2^15 ε / 2 at most: each weight is off by ln 2 times as much of
    // itself. The score of a key that nobody sees is as large: whatever its weight is, nobody may meet it.
    const double of_weight = std::numeric_limits<TypeParam>::epsilon() * 0x1p14 * std::log(2);
    for (std::size_t i = 0; i < exact.size(); ++i) {
      EXPECT_NEAR(results.value[i], exact[i], 1.05 * of_weight * largest[i]) << test << ", " << i;
      EXPECT_TRUE(std::isfinite(results.query[i]) && std::isfinite(results.key[i])) << test << ", " << i;
    }
  }
}

// ---- What is not finite ---------------------------------------------------------------------------------------------

/// Which rows of a gradient a bad number may reach: those of queries that see the bad key, or of the bad query, and
/// those of the keys that such queries see.
struct Reach {
  std::vector<bool> queries, keys;
};

Reach reach_of(const Case& test, std::int64_t place, bool of_query) {
  Reach reach{std::vector<bool>(static_cast<std::size_t>(test.length)),
              std::vector<bool>(static_cast<std::size_t>(test.length))};
  for (std::int64_t t = 0; t < test.length; ++t) {
    const bool reached = of_query ? t == place : sees(test.visible, t, place);
    if (!reached) continue;
    reach.queries[static_cast<std::size_t>(t)] = true;
    for (std::int64_t s = 0; s < test.length; ++s) {
      if (sees(test.visible, t, s)) reach.keys[static_cast<std::size_t>(s)] = true;
    }
  }
  return reach;
}

template <class Real>
void expect_same_where_not_reached(const Case& test, const Results<Real>& actual, const Results<Real>& expected,
                                   const Reach& reach) {
  for (std::int64_t t = 0; t < test.batch * test.length; ++t) {
    const auto row = [&](const std::vector<Real>& rows) { return rows_of(rows, test.row(), t, 1); };
    const bool of_other = t >= test.length;  // another sequence of the batch
    if (of_other || !reach.queries[static_cast<std::size_t>(t)]) {
      EXPECT_TRUE(same_bits(row(actual.query), row(expected.query), test.row())) << test << ", query " << t;
      EXPECT_TRUE(same_bits(row(actual.own_query), row(expected.own_query), test.row())) << test << ", query " << t;
    }
    if (!of_other && reach.keys[static_cast<std::size_t>(t)]) continue;
    EXPECT_TRUE(same_bits(row(actual.key), row(expected.key), test.row())) << test << ", key " << t;
    EXPECT_TRUE(same_bits(row(actual.value), row(expected.value), test.row())) << test << ", value " << t;
  }
}

TYPED_TEST(SoftmaxGradient, what_is_not_finite_changes_no_bit_of_those_that_do_not_see_it) {
  constexpr std::int64_t length = 2 * query_tile + 11;
  for (const Visible& visible : all_visible(length)) {
    const auto test = make_case({2, 1, 5, length}, visible);
    const auto expected = run<TypeParam>(test);
    for (const std::int64_t place : {std::int64_t{7}, key_tile, length - 1}) {
      for (const double bad : {infinity, nan}) {
        for (auto input : {&Case::query, &Case::key, &Case::value, &Case::output_gradient}) {
          auto spoiled = test;
          (spoiled.*input)[test.place(0, place, 0) + 2] = bad;
          const auto actual = run<TypeParam>(spoiled);
          const bool of_query = input == &Case::query || input == &Case::output_gradient;
          expect_same_where_not_reached(test, actual, expected, reach_of(test, place, of_query));
          // Each token sees itself. A score of −∞ may be of no weight.
          EXPECT_FALSE(std::isnan(bad) && std::isfinite(actual.query[test.place(0, place, 0) + 2])) << test;
        }
      }
    }
  }
}

/// A query all of whose scores overflowed is no query that sees nothing.
TYPED_TEST(SoftmaxGradient, scores_that_are_all_minus_infinity_give_nan) {
  constexpr std::int64_t length = key_tile + 9;
  auto test = make_case({1, 1, 5, length}, Window{everything});
  for (std::int64_t s = 0; s < length; ++s) std::fill_n(&test.key[test.place(0, s, 0)], 5, s < 3 ? -1. : 1.);
  std::fill_n(&test.query[test.place(0, 2, 0)], 5, static_cast<double>(std::numeric_limits<TypeParam>::max()));
  const auto results = run<TypeParam>(test);
  EXPECT_TRUE(std::isnan(results.log_sum[2]));
  EXPECT_TRUE(std::isnan(results.query[test.place(0, 2, 0)]));
  EXPECT_TRUE(std::isnan(results.value[test.place(0, 1, 0)]));  // which that query sees
  EXPECT_TRUE(std::isfinite(results.query[test.place(0, 1, 0)]));
  EXPECT_TRUE(std::isfinite(results.value[test.place(0, 3, 0)]));
}

// ---- The same bits --------------------------------------------------------------------------------------------------

TYPED_TEST(SoftmaxGradient, log_sums_are_kept_without_a_change_of_the_output) {
  constexpr std::int64_t length = 2 * query_tile + 11;
  for (const Visible& visible : all_visible(length)) {
    const auto test = with_padding(make_case({2, 2, 12, length}, visible), Padding::holes, 9);
    const auto output = filled<TypeParam>(test.batch, length, test.row());
    std::visit(
        [&](const auto& seen) {
          kernels::token_softmax<TypeParam>(Execution(), "test::softmax", test.heads, seen,
                                            static_cast<TypeParam>(test.scale),
                                            columns<TypeParam>(test, tokens_of<TypeParam>(test, test.query, 0, length)),
                                            keys_of<TypeParam>(test, 0, length), columns(test, output), 0, 0, length);
        },
        visible);
    Execution().fence();
    EXPECT_TRUE(same_bits(run<TypeParam>(test).output, to_host(output), test.row())) << test;
  }
}

/// Tokens [begin, end) of numbers [batch, heads, length].
template <class Real>
Array<Real***> tokens_of_heads(const Case& test, const std::vector<Real>& numbers, std::int64_t begin,
                               std::int64_t end) {
  std::vector<Real> some;
  for (std::int64_t row = 0; row < test.batch * test.heads; ++row) {
    const auto part = rows_of(numbers, 1, row * test.length + begin, end - begin);
    some.insert(some.end(), part.begin(), part.end());
  }
  return to_device<Real***>(some, test.batch, test.heads, end - begin);
}

/// The tokens that some of the tokens [begin, end) see, or are seen by, and they themselves.
Range together_with(const Case& test, std::int64_t begin, std::int64_t end, bool seen_by_them) {
  Range range{begin, end};
  for (std::int64_t t = begin; t < end; ++t) {
    for (std::int64_t s = 0; s < test.length; ++s) {
      if (!(seen_by_them ? sees(test.visible, t, s) : sees(test.visible, s, t))) continue;
      range = {std::min(range.begin, s), std::max(range.end, s + 1)};
    }
  }
  return range;
}

/// Gradients of the tokens [begin, end) from no more than what they need, put into `results`.
template <class Real>
void run_part(const Case& test, const Results<Real>& whole, std::int64_t begin, std::int64_t end,
              Results<Real>& results) {
  const Range keys = together_with(test, begin, end, true), queries = together_with(test, begin, end, false);
  const auto tokens = [&](std::int64_t first, std::int64_t last, std::int64_t first_key, std::int64_t last_key) {
    return kernels::SoftmaxTokens<Real>{columns<Real>(test, tokens_of<Real>(test, test.query, first, last)),
                                        columns<Real>(test, tokens_of<Real>(test, test.output_gradient, first, last)),
                                        tokens_of_heads(test, whole.log_sum, first, last),
                                        tokens_of_heads(test, whole.delta, first, last),
                                        first,
                                        keys_of<Real>(test, first_key, last_key)};
  };
  const auto rows = [&] { return filled<Real>(test.batch, end - begin, test.row()); };
  const auto query = rows(), key = rows(), value = rows(), own_query = rows();
  const auto own_delta = filled<Real>(test.batch, test.heads, end - begin);
  const auto scale = static_cast<Real>(test.scale);
  std::visit(
      [&](const auto& visible) {
        kernels::token_query_gradients<Real>(Execution(), "test::query", test.heads, visible, scale,
                                             tokens(begin, end, keys.begin, keys.end), columns(test, query), begin,
                                             begin, end);
        kernels::token_query_gradients_and_deltas<Real>(Execution(), "test::query", test.heads, visible, scale,
                                                        tokens(begin, end, keys.begin, keys.end), own_delta,
                                                        columns(test, own_query), begin, begin, end);
        kernels::token_key_gradients<Real>(Execution(), "test::key", test.heads, visible, scale,
                                           tokens(queries.begin, queries.end, begin, end), columns(test, key),
                                           columns(test, value), begin, begin, end);
      },
      test.visible);
  Execution().fence();
  const auto put = [&](const Array<Real***>& from, std::vector<Real>& to) {
    const auto part = to_host(from);
    for (std::int64_t b = 0; b < test.batch; ++b)
      std::copy_n(part.begin() + b * (end - begin) * test.row(), (end - begin) * test.row(),
                  to.begin() + (b * test.length + begin) * test.row());
  };
  put(query, results.query), put(key, results.key), put(value, results.value), put(own_query, results.own_query);
}

template <class Real>
void expect_same_gradients(const Case& test, const Results<Real>& actual, const Results<Real>& expected) {
  EXPECT_TRUE(same_bits(actual.query, expected.query, test.row())) << test;
  EXPECT_TRUE(same_bits(actual.own_query, expected.own_query, test.row())) << test;
  EXPECT_TRUE(same_bits(actual.key, expected.key, test.row())) << test;
  EXPECT_TRUE(same_bits(actual.value, expected.value, test.row())) << test;
}

TYPED_TEST(SoftmaxGradient, bits_do_not_depend_on_where_queries_and_keys_are_cut) {
  constexpr std::int64_t length = 3 * query_tile + 11;
  for (const Visible& visible : all_visible(length)) {
    const auto test = with_padding(make_case({2, 2, 5, length}, visible), Padding::holes, 9);
    const auto whole = run<TypeParam>(test);
    for (const std::int64_t cut : {std::int64_t{1}, query_tile - 1, query_tile, 2 * query_tile + 5}) {
      auto parts = whole;
      for (auto* rows : {&parts.query, &parts.key, &parts.value, &parts.own_query})
        std::fill(rows->begin(), rows->end(), TypeParam(untouched));
      run_part(test, whole, 0, cut, parts);
      run_part(test, whole, cut, length, parts);
      SCOPED_TRACE("cut at " + std::to_string(cut));
      expect_same_gradients(test, parts, whole);
    }
  }
}

TYPED_TEST(SoftmaxGradient, bits_of_a_sequence_do_not_depend_on_the_others_of_the_batch) {
  constexpr std::int64_t length = query_tile + 11;
  for (const Visible& visible : all_visible(length)) {
    const auto test = with_padding(make_case({3, 2, 5, length}, visible), Padding::holes, 9);
    auto alone = test;
    alone.batch = 1;
    for (auto rows : {&Case::query, &Case::key, &Case::value, &Case::output_gradient})
      alone.*rows = rows_of(test.*rows, test.row(), length, length);
    alone.real = rows_of(test.real, 1, length, length);
    const auto all = run<TypeParam>(test), one = run<TypeParam>(alone);
    const auto second = [&](const std::vector<TypeParam>& rows) { return rows_of(rows, test.row(), length, length); };
    expect_same_gradients<TypeParam>(
        alone, one, {{}, {}, {}, second(all.query), second(all.key), second(all.value), {}, second(all.own_query)});
  }
}

}  // namespace
}  // namespace bsbr::testing
