// Softmax attention in tiles against plain loops: sizes that do not fit tiles, all kinds of ranges, keys and queries
// that do not exist. Query by query (softmax_rows.hpp) the bits are always the same.
#include "kernels/softmax_tiles.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ostream>

#include "kernels/softmax_rows.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::KeyRange;
constexpr int key_tile = kernels::tuning::key_tile;
constexpr int query_tile = kernels::tuning::query_tile;

constexpr std::int64_t chunk_size = query_tile + 9, window_size = key_tile / 2 + 3;  // neither fits a tile

/// Which keys a token sees.
enum class Seen { causal, whole, suffix, window, causal_in_chunk, whole_chunk, suffix_of_chunk, all_before, nothing };
constexpr Seen all_ranges[] = {Seen::causal,          Seen::whole,           Seen::suffix,
                               Seen::window,          Seen::causal_in_chunk, Seen::whole_chunk,
                               Seen::suffix_of_chunk, Seen::all_before,      Seen::nothing};

KOKKOS_INLINE_FUNCTION KeyRange range_of(Seen seen, std::int64_t t, std::int64_t length) {
  const std::int64_t begin = t / chunk_size * chunk_size,
                     end = begin + chunk_size < length ? begin + chunk_size : length;
  switch (seen) {
    case Seen::causal:
      return {0, t + 1};
    case Seen::whole:
      return {0, length};
    case Seen::suffix:
      return {t, length};
    case Seen::window:
      return {t > window_size ? t - window_size : 0, t + 1};
    case Seen::causal_in_chunk:
      return {begin, t + 1};
    case Seen::whole_chunk:
      return {begin, end};
    case Seen::suffix_of_chunk:
      return {t, end};
    case Seen::all_before:
      return {0, t};
    default:
      return {t, t};
  }
}

/// Bit for bit, but any NaN is like any other.
template <class Real>
bool same_numbers(const std::vector<Real>& some, const std::vector<Real>& others) {
  return std::equal(some.begin(), some.end(), others.begin(), others.end(), [](Real a, Real b) {
    return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
  });
}

constexpr std::int64_t groups = 3;
constexpr std::int64_t surplus = 3;  // numbers between rows, which nobody may read or write
constexpr double nan = std::numeric_limits<double>::quiet_NaN(), untouched = 77;

/// One call of the kernel. Numbers are held by float exactly; rows lie `surplus` numbers apart, with NaN between them.
struct Case {
  int key_width, value_width;
  std::int64_t length, first, last;
  Seen seen;
  double scale;
  std::vector<double> queries, keys, values;           // [group, length, width + surplus]
  std::vector<std::uint8_t> query_exists, key_exists;  // [group, length]
  std::vector<int> null_keys;                          // [length]
  std::vector<double> null_scores;                     // [group]

  double* row(std::vector<double>& rows, int width, std::int64_t group, std::int64_t t) const {
    return &rows[static_cast<std::size_t>((group * length + t) * (width + surplus))];
  }
  double* query(std::int64_t group, std::int64_t t) { return row(queries, key_width, group, t); }
  double* key(std::int64_t group, std::int64_t s) { return row(keys, key_width, group, s); }
  double* value(std::int64_t group, std::int64_t s) { return row(values, value_width, group, s); }
};

std::ostream& operator<<(std::ostream& out, const Case& test) {
  return out << "widths " << test.key_width << ", " << test.value_width << "; length " << test.length << "; queries "
             << test.first << " to " << test.last << "; range " << static_cast<int>(test.seen);
}

std::vector<double> random_rows(std::int64_t length, int width, std::uint64_t seed) {
  auto rows = in_float(random_matrix(groups * length, width + surplus, seed).values);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::int64_t>(i) % (width + surplus) >= width) rows[i] = nan;
  }
  return rows;
}

Case make_case(int key_width, int value_width, std::int64_t length, std::int64_t first, std::int64_t last, Seen seen) {
  const auto tokens = static_cast<std::size_t>(groups * length);
  return {.key_width = key_width,
          .value_width = value_width,
          .length = length,
          .first = first,
          .last = last,
          .seen = seen,
          .scale = 1.5 / std::sqrt(key_width),
          .queries = random_rows(length, key_width, 1),
          .keys = random_rows(length, key_width, 2),
          .values = random_rows(length, value_width, 3),
          .query_exists = std::vector<std::uint8_t>(tokens, 1),
          .key_exists = std::vector<std::uint8_t>(tokens, 1),
          .null_keys = std::vector<int>(static_cast<std::size_t>(length), 0),
          .null_scores = std::vector<double>(groups, 0)};
}

/// What the kernel asks of a problem: see softmax_tiles.hpp.
template <class Real>
struct Problem {
  Real scale;
  int key_width, value_width;
  std::int64_t groups, neighbours, unit, first, last;
  Array<const Real***> queries, keys, values;
  Array<const std::uint8_t**> query_exists, key_exists;
  Array<const int*> nulls;
  Array<const Real*> scores_of_nulls;
  Array<Real***> results;
  Array<Real**> log_sums;
  Seen seen;

  explicit Problem(const Case& test)
      : scale(static_cast<Real>(test.scale)),
        key_width(test.key_width),
        value_width(test.value_width),
        groups(testing::groups),
        neighbours(test.length % 2 == 0 ? testing::groups : 1),
        unit(1),
        first(test.first),
        last(test.last),
        queries(to_device<Real***>(test.queries, groups, test.length, key_width + surplus)),
        keys(to_device<Real***>(test.keys, groups, test.length, key_width + surplus)),
        values(to_device<Real***>(test.values, groups, test.length, value_width + surplus)),
        query_exists(to_device<std::uint8_t**>(test.query_exists, groups, test.length)),
        key_exists(to_device<std::uint8_t**>(test.key_exists, groups, test.length)),
        nulls(to_device<int*>(test.null_keys, test.length)),
        scores_of_nulls(to_device<Real*>(test.null_scores, groups)),
        results("test::results", groups, test.length, value_width + surplus),
        log_sums("test::log_sums", groups, test.length),
        seen(test.seen) {
    Kokkos::deep_copy(results, Real(untouched));
  }

  KOKKOS_FUNCTION KeyRange range(std::int64_t t) const {
    return range_of(seen, t, static_cast<std::int64_t>(keys.extent(1)));
  }
  KOKKOS_FUNCTION const Real* query(std::int64_t group, std::int64_t t) const { return &queries(group, t, 0); }
  KOKKOS_FUNCTION const Real* key(std::int64_t group, std::int64_t s) const { return &keys(group, s, 0); }
  KOKKOS_FUNCTION const Real* value(std::int64_t group, std::int64_t s) const { return &values(group, s, 0); }
  KOKKOS_FUNCTION bool has_query(std::int64_t group, std::int64_t t) const { return query_exists(group, t) != 0; }
  KOKKOS_FUNCTION bool has_key(std::int64_t group, std::int64_t s) const { return key_exists(group, s) != 0; }
  KOKKOS_FUNCTION int null_keys(std::int64_t t) const { return nulls(t); }
  KOKKOS_FUNCTION Real null_score(std::int64_t group) const { return scores_of_nulls(group); }
  KOKKOS_FUNCTION Real* output(std::int64_t group, std::int64_t t) const { return &results(group, t, 0); }
  KOKKOS_FUNCTION Real& log_sum(std::int64_t group, std::int64_t t) const { return log_sums(group, t); }
};

/// What softmax_tiles and, on a host, softmax_rows give: [group, length, value_width + surplus]; `untouched` where they
/// write nothing.
template <class Real>
std::vector<Real> run(const Case& test) {
  const Problem<Real> problem(test);
  kernels::softmax_tiles<Real>(Execution(), "test::softmax_tiles", problem);
  Execution().fence();
  std::vector<Real> results = to_host(problem.results);
  if constexpr (kernels::on_host) {
    const std::vector<Real> log_sums = to_host(problem.log_sums);
    Kokkos::deep_copy(problem.results, Real(untouched));
    Kokkos::deep_copy(problem.log_sums, Real(0));
    kernels::softmax_rows<Real>(Execution(), "test::softmax_rows", problem);
    Execution().fence();
    EXPECT_TRUE(same_numbers(to_host(problem.results), results)) << test;
    EXPECT_TRUE(same_numbers(to_host(problem.log_sums), log_sums)) << test;
  }
  return results;
}

/// One row by plain loops in Real: Σ_s softmax_s(query · key_s · scale) value_s.
template <class Real>
void plain_row(Case& test, std::int64_t group, std::int64_t t, Real* output) {
  std::fill(output, output + test.value_width, Real(0));
  if (test.query_exists[static_cast<std::size_t>(group * test.length + t)] == 0) return;
  const KeyRange range = range_of(test.seen, t, test.length);
  const int null_keys = test.null_keys[static_cast<std::size_t>(t)];
  std::vector<std::int64_t> seen;
  std::vector<Real> scores;
  const Real null_score = static_cast<Real>(test.null_scores[static_cast<std::size_t>(group)]),
             nothing = -std::numeric_limits<Real>::infinity();
  Real largest = null_keys > 0 ? null_score : nothing, total = 0;
  for (std::int64_t s = range.begin; s < range.end; ++s) {
    if (test.key_exists[static_cast<std::size_t>(group * test.length + s)] == 0) continue;
    Real score = 0;
    for (int k = 0; k < test.key_width; ++k)
      score += static_cast<Real>(test.query(group, t)[k]) * static_cast<Real>(test.key(group, s)[k]);
    seen.push_back(s);
    scores.push_back(score * static_cast<Real>(test.scale));
    largest = std::max(largest, scores.back());
  }
  if (null_keys > 0 && null_score > nothing) total = static_cast<Real>(null_keys) * std::exp(null_score - largest);
  for (const Real score : scores) total += std::exp(score - largest);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const Real weight = std::exp(scores[i] - largest) / total;
    for (int column = 0; column < test.value_width; ++column)
      output[column] += weight * static_cast<Real>(test.value(group, seen[i])[column]);
  }
}

template <class Real>
std::vector<Real> plain_loops(Case test) {
  const std::int64_t stride = test.value_width + surplus;
  std::vector<Real> results(static_cast<std::size_t>(groups * test.length * stride), Real(untouched));
  for (std::int64_t group = 0; group < groups; ++group) {
    for (std::int64_t t = test.first; t < test.last; ++t)
      plain_row(test, group, t, &results[static_cast<std::size_t>((group * test.length + t) * stride)]);
  }
  return results;
}

template <class Real>
void expect_right(const Case& test) {
  const auto exact = plain_loops<double>(test);
  const double tolerance = bound(exact, plain_loops<Real>(test));
  const std::vector<std::int64_t> shape{groups, test.length, test.value_width + surplus};
  EXPECT_TRUE(all_close({run<Real>(test), shape}, {exact, shape}, tolerance)) << test;
}

template <class Real>
class SoftmaxTiles : public ::testing::Test {};
TYPED_TEST_SUITE(SoftmaxTiles, Reals, RealNames);

TYPED_TEST(SoftmaxTiles, every_range_of_keys_is_seen_and_nothing_else) {
  constexpr std::int64_t T = query_tile;
  for (const Seen seen : all_ranges) {
    expect_right<TypeParam>(make_case(12, 12, 3 * T + 1, 0, 3 * T + 1, seen));
    expect_right<TypeParam>(make_case(12, 12, 4 * T + 7, T / 2 + 3, 3 * T + 5, seen));
  }
}

TYPED_TEST(SoftmaxTiles, head_widths_need_not_fit_vectors) {
  constexpr std::int64_t length = query_tile + key_tile + 5;
  for (const int width : {1, 5, 12, 64, 80, 128}) {
    for (const Seen seen : {Seen::causal, Seen::window, Seen::whole_chunk}) {
      expect_right<TypeParam>(make_case(width, width, length, 3, length - 1, seen));
    }
  }
}

TYPED_TEST(SoftmaxTiles, values_may_be_wider_or_narrower_than_keys) {
  constexpr std::int64_t length = query_tile + key_tile + 5;
  for (const auto& [key_width, value_width] :
       {std::pair{12, 80}, {64, 5}, {5, kernels::tuning::state_block}, {1, 33}}) {
    expect_right<TypeParam>(make_case(key_width, value_width, length, 1, length, Seen::causal));
  }
}

TYPED_TEST(SoftmaxTiles, counts_of_queries_need_not_fit_tiles) {
  constexpr std::int64_t T = query_tile;
  for (const std::int64_t count : {std::int64_t{1}, T - 1, T, T + 1, 3 * T - 1, 3 * T, 3 * T + 1}) {
    for (const std::int64_t first : {std::int64_t{0}, std::int64_t{1}, T - 1, T, 2 * T + 5}) {
      for (const Seen seen : {Seen::causal, Seen::suffix_of_chunk}) {
        expect_right<TypeParam>(make_case(5, 5, first + count + 2, first, first + count, seen));
      }
    }
  }
}

TYPED_TEST(SoftmaxTiles, without_queries_nothing_is_written) {
  expect_right<TypeParam>(make_case(5, 5, 10, 0, 0, Seen::whole));
  expect_right<TypeParam>(make_case(5, 5, 10, 7, 7, Seen::whole));
}

TYPED_TEST(SoftmaxTiles, nothing_to_see_gives_zeros) {
  const auto results = run<TypeParam>(make_case(5, 5, 10, 0, 10, Seen::nothing));
  for (std::size_t i = 0; i < results.size(); ++i) EXPECT_EQ(results[i], i % (5 + surplus) < 5 ? 0 : untouched) << i;
}

/// Hides about a third of the keys, differently in each group, all of a tile among them; their rows hold what must not
/// matter.
Case with_hidden_keys(Case test) {
  const auto mask = random_mask(groups * test.length, 0.35, 4);
  for (std::int64_t group = 0; group < groups; ++group) {
    for (std::int64_t s = 0; s < test.length; ++s) {
      const auto i = static_cast<std::size_t>(group * test.length + s);
      test.key_exists[i] = mask[i] != 0 && (s < key_tile || s >= 2 * key_tile);
      if (test.key_exists[i] != 0) continue;
      const double junk[] = {nan, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                             1e30};
      std::fill_n(test.key(group, s), test.key_width, junk[s % 4]);
      std::fill_n(test.value(group, s), test.value_width, junk[s / 4 % 4]);
    }
  }
  return test;
}

TYPED_TEST(SoftmaxTiles, masked_keys_are_left_out_whatever_they_hold) {
  constexpr std::int64_t length = 3 * key_tile + query_tile + 5;
  for (const Seen seen : all_ranges) {
    expect_right<TypeParam>(with_hidden_keys(make_case(12, 12, length, 0, length, seen)));
    expect_right<TypeParam>(with_hidden_keys(make_case(80, 5, length, 7, length - 3, seen)));
  }
}

TYPED_TEST(SoftmaxTiles, all_keys_masked_gives_zeros) {
  auto test = make_case(12, 12, 2 * key_tile + 3, 0, 2 * key_tile + 3, Seen::whole);
  std::fill(test.key_exists.begin(), test.key_exists.end(), std::uint8_t{0});
  expect_right<TypeParam>(test);
}

TYPED_TEST(SoftmaxTiles, queries_that_do_not_exist_are_not_read_and_give_zeros) {
  constexpr std::int64_t length = 2 * query_tile + 11;
  auto test = make_case(12, 20, length, 2, length, Seen::whole);
  test.query_exists = random_mask(groups * length, 0.4, 5);
  for (std::int64_t i = 0; i < groups * length; ++i) {
    if (test.query_exists[static_cast<std::size_t>(i)] == 0)
      std::fill_n(test.query(i / length, i % length), test.key_width, nan);
  }
  expect_right<TypeParam>(test);
}

TYPED_TEST(SoftmaxTiles, null_keys_take_part_with_score_zero_and_value_zero) {
  constexpr std::int64_t length = query_tile + key_tile + 5;
  for (const Seen seen : {Seen::suffix_of_chunk, Seen::causal, Seen::nothing}) {
    auto test = make_case(12, 12, length, 1, length, seen);
    for (std::int64_t t = 0; t < length; ++t)
      test.null_keys[static_cast<std::size_t>(t)] = static_cast<int>(t % 5 == 0 ? 0 : t * t);
    expect_right<TypeParam>(test);
  }
}

TYPED_TEST(SoftmaxTiles, null_keys_may_have_a_score_of_their_own_in_each_group) {
  constexpr std::int64_t length = query_tile + key_tile + 5;
  const double nothing = -std::numeric_limits<double>::infinity();
  for (const Seen seen : {Seen::causal, Seen::whole}) {
    auto test = make_case(12, 12, length, 1, length, seen);
    test.null_scores = {-1.5, 0.75, 3};
    for (std::int64_t t = 0; t < length; ++t) test.null_keys[static_cast<std::size_t>(t)] = static_cast<int>(t % 3);
    expect_right<TypeParam>(test);
    test.null_scores = {nothing, -1e4, 50};  // without weight, or with nearly all of it
    expect_right<TypeParam>(test);
    test.null_scores = {-nothing, nan, 3};  // not hidden, also where no other key exists
    run<TypeParam>(test);
    std::fill(test.key_exists.begin(), test.key_exists.end(), std::uint8_t{0});
    EXPECT_TRUE(std::isnan(run<TypeParam>(test)[static_cast<std::size_t>(2 * (12 + surplus))])) << test;
  }
}

/// Query t is (1e4, 0, …), key s is (s mod 7 − 3, 0, …): scores are whole numbers from −3e4 to 3e4, exact in float.
Case with_huge_scores(Case test) {
  test.scale = 1;
  for (std::int64_t group = 0; group < groups; ++group) {
    for (std::int64_t t = 0; t < test.length; ++t) {
      std::fill_n(test.query(group, t), test.key_width, 0.);
      std::fill_n(test.key(group, t), test.key_width, 0.);
      test.query(group, t)[0] = 1e4;
      test.key(group, t)[0] = static_cast<double>((t + group) % 7 - 3);
    }
  }
  return test;
}

TYPED_TEST(SoftmaxTiles, scores_that_overflow_are_not_hidden) {
  auto test = make_case(5, 12, 10, 0, 10, Seen::causal);
  constexpr double large = std::numeric_limits<TypeParam>::max() / 4;
  std::fill_n(test.query(0, 7), 5, large);
  std::fill_n(test.key(0, 3), 5, large);
  const auto output = run<TypeParam>(test);
  EXPECT_TRUE(std::isnan(output[7 * (12 + surplus)])) << output[7 * (12 + surplus)];
  EXPECT_TRUE(std::isfinite(output[6 * (12 + surplus)])) << output[6 * (12 + surplus)];
}

/// Puts `bad` into the middle of a row of the first group.
void spoil(double* row, int width, double bad) { row[width / 2] = bad; }

TYPED_TEST(SoftmaxTiles, what_is_not_finite_changes_no_bit_of_queries_that_do_not_see_it) {
  constexpr std::int64_t length = 2 * query_tile + 11, row = 12 + surplus;
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Seen seen : all_ranges) {
    const auto test = make_case(12, 12, length, 1, length, seen);
    const auto expected = run<TypeParam>(test);
    for (const std::int64_t place :
         {std::int64_t{0}, std::int64_t{7}, std::int64_t{key_tile - 1}, std::int64_t{key_tile}, length - 1}) {
      for (const double bad : {infinity, -infinity, nan}) {
        for (const bool of_key : {false, true}) {
          SCOPED_TRACE(std::to_string(place) + (of_key ? ", key " : ", value ") + std::to_string(bad));
          auto spoiled = test;
          spoil(of_key ? spoiled.key(0, place) : spoiled.value(0, place), 12, bad);
          const auto actual = run<TypeParam>(spoiled);
          for (std::int64_t t = 0; t < groups * length; ++t) {
            const KeyRange range = range_of(seen, t % length, length);
            if (t < length && t >= test.first && range.begin <= place && place < range.end) {
              const bool must_show = !of_key || std::isnan(bad);  // a score of −∞ may be of no weight
              EXPECT_FALSE(must_show && std::isfinite(actual[static_cast<std::size_t>(t * row + 6)]))
                  << test << ", query " << t;
            } else {
              EXPECT_TRUE(same_bits(rows_of(actual, row, t, 1), rows_of(expected, row, t, 1), row))
                  << test << ", query " << t;
            }
          }
        }
      }
    }
  }
}

TYPED_TEST(SoftmaxTiles, queries_that_are_not_finite_or_do_not_exist_touch_no_other) {
  constexpr std::int64_t length = query_tile + 11, row = 12 + surplus;
  auto test = make_case(12, 12, length, 0, length, Seen::whole);
  const auto expected = run<TypeParam>(test);
  spoil(test.query(0, 20), 12, nan);
  test.query_exists[30] = 0;
  spoil(test.value(1, 5), 12, nan);  // which all queries of the second group see
  test.query_exists[length + 3] = 0;
  const auto actual = run<TypeParam>(test);
  EXPECT_TRUE(std::isnan(actual[20 * row]));
  for (int i = 0; i < 12; ++i) EXPECT_EQ(actual[static_cast<std::size_t>(30 * row + i)], 0);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(actual[static_cast<std::size_t>((length + 3) * row + i)], 0);
  for (std::int64_t t = 0; t < length; ++t) {
    if (t == 20 || t == 30) continue;
    EXPECT_TRUE(same_bits(rows_of(actual, row, t, 1), rows_of(expected, row, t, 1), row)) << t;
  }
}

/// A query all of whose scores overflowed is no query that sees nothing.
TYPED_TEST(SoftmaxTiles, scores_that_are_all_minus_infinity_give_nan) {
  constexpr std::int64_t length = key_tile + 9, row = 5 + surplus;
  for (const Seen seen : {Seen::causal, Seen::window}) {
    auto test = make_case(5, 5, length, 0, length, seen);
    for (std::int64_t s = 0; s < length; ++s) std::fill_n(test.key(0, s), 5, s < 3 || s == key_tile ? -1 : 1);
    std::fill_n(test.query(0, 2), 5, std::numeric_limits<TypeParam>::max());
    test.key_exists[static_cast<std::size_t>(length)] =
        0;  // of the second group: its first query sees nothing where it is causal
    const auto output = run<TypeParam>(test);
    EXPECT_TRUE(std::isnan(output[2 * row])) << test << output[2 * row];
    EXPECT_TRUE(std::isfinite(output[1 * row])) << test;
    EXPECT_EQ(output[static_cast<std::size_t>(length * row)], 0) << test;
  }
}

TYPED_TEST(SoftmaxTiles, huge_scores_pick_the_largest) {
  constexpr std::int64_t length = query_tile + 2 * key_tile + 5;
  for (const Seen seen : all_ranges) {
    auto test = with_huge_scores(make_case(5, 12, length, 0, length, seen));
    expect_right<TypeParam>(test);  // NaN would equal nothing
    expect_right<TypeParam>(with_hidden_keys(test));
    std::fill(test.null_keys.begin(), test.null_keys.end(), 2);
    expect_right<TypeParam>(test);
  }
}

TYPED_TEST(SoftmaxTiles, scores_that_grow_or_fall_along_the_keys_give_the_same_softmax) {
  constexpr std::int64_t length = query_tile + 3 * key_tile + 5;
  for (const double step : {-1., -0.05, 0.05, 1.}) {  // each tile has a new maximum, or none after the first
    auto test = make_case(5, 5, length, 0, length, Seen::whole);
    test.scale = 1;
    for (std::int64_t group = 0; group < groups; ++group) {
      for (std::int64_t t = 0; t < length; ++t) {
        test.query(group, t)[0] = 1;
        test.key(group, t)[0] = static_cast<double>(static_cast<float>(step * static_cast<double>(t)));
      }
    }
    expect_right<TypeParam>(test);
  }
}

TYPED_TEST(SoftmaxTiles, bits_do_not_depend_on_where_the_queries_are_cut) {
  constexpr std::int64_t length = 3 * query_tile + 11;
  for (const Seen seen : all_ranges) {
    const auto test = with_hidden_keys(make_case(12, 12, length, 0, length, seen));
    const auto whole = run<TypeParam>(test);
    constexpr std::int64_t row = 12 + surplus;
    for (const std::int64_t cut :
         {std::int64_t{1}, std::int64_t{query_tile - 1}, std::int64_t{query_tile}, std::int64_t{2 * query_tile + 5}}) {
      auto before = test, after = test;
      before.last = after.first = cut;
      auto joined = run<TypeParam>(before);
      const auto rest = run<TypeParam>(after);
      for (std::size_t i = 0; i < joined.size(); ++i) {
        if (static_cast<std::int64_t>(i) / row % length >= cut) joined[i] = rest[i];
      }
      EXPECT_TRUE(same_bits(joined, whole, row)) << test << "; cut at " << cut;
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
