// Choosing tokens: against plain loops that sort everything, the distribution of many draws, edges of the options, and
// what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "bsbr/sampling.hpp"
#include "kernels/philox.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using Logits = std::vector<double>;

/// Multiples of 1/8, so that some are equal and float holds all of them.
Logits random_logits(std::int64_t count, std::uint64_t seed) {
  Logits logits = random_matrix(1, count, seed, 2).values;
  for (double& logit : logits) logit = std::round(logit * 8) / 8;
  return logits;
}

template <class Real = double>
std::int32_t choose(const SamplingOptions& options, const Logits& logits, std::int64_t position = 0,
                    std::int64_t sequence = 0) {
  const std::vector<Real> row(logits.begin(), logits.end());
  return Sampler(options).choose(std::span<const Real>(row), position, sequence);
}

std::int32_t greedy(const Logits& logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// ---- By its definition ----------------------------------------------------------------------------------------------

/// Weights of all ids, 0 of those that cannot be chosen.
std::vector<double> plain_weights(const SamplingOptions& options, const Logits& logits) {
  std::vector<std::size_t> order(logits.size());  // of ids, the most probable one first
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  const auto k = static_cast<std::size_t>(options.top_k);
  if (k > 0 && k < order.size()) order.resize(k);
  std::vector<double> weights(logits.size(), 0.0);
  for (const std::size_t id : order) weights[id] = std::exp((logits[id] - logits[order[0]]) / options.temperature);
  if (options.top_p == 1) return weights;
  double all = 0, sum = 0;
  for (const double weight : weights) all += weight;
  for (const std::size_t id : order) {
    const bool is_behind = sum >= options.top_p * all;
    sum += weights[id];
    if (is_behind) weights[id] = 0;
  }
  return weights;
}

std::int32_t plain_choice(const SamplingOptions& options, const Logits& logits, std::int64_t position,
                          std::int64_t sequence) {
  if (options.temperature == 0) return greedy(logits);
  const auto half = [](std::int64_t number, int which) { return static_cast<std::uint32_t>(number >> (32 * which)); };
  const kernels::PhiloxWords bits =
      kernels::philox({{half(position, 0), half(position, 1), half(sequence, 0), half(sequence, 1)}}, options.seed);
  const double whole = std::ldexp(bits.word[1], 20) + (bits.word[0] >> 12);
  const double uniform = std::ldexp(whole + 0.5, -52);
  const std::vector<double> weights = plain_weights(options, logits);
  double all = 0, sum = 0;
  for (const double weight : weights) all += weight;
  for (std::size_t id = 0; id < weights.size(); ++id) {
    sum += weights[id];
    if (sum >= uniform * all) return static_cast<std::int32_t>(id);
  }
  return -1;
}

TEST(Sampler, chooses_what_plain_loops_choose) {
  for (const std::int64_t vocab_size : {1, 2, 5, 63, 64, 65, 300}) {
    const Logits logits = random_logits(vocab_size, 3);
    for (const double temperature : {0.0, 0.3, 1.0, 4.0}) {
      for (const std::int64_t top_k : {0, 1, 2, 64, 100, 1000}) {
        for (const double top_p : {1.0, 1 - 1e-16, 0.999, 0.7, 0.1, 1e-300}) {
          const SamplingOptions options{temperature, top_k, top_p, 11};
          for (std::int64_t position = 0; position < 12; ++position) {
            const std::int32_t expected = plain_choice(options, logits, position, position % 3);
            ASSERT_EQ(choose(options, logits, position, position % 3), expected)
                << vocab_size << " ids, temperature " << temperature << ", top-k " << top_k << ", top-p " << top_p;
            ASSERT_EQ(choose<float>(options, logits, position, position % 3), expected);
          }
        }
      }
    }
  }
}

TEST(Sampler, of_a_vocabulary_of_two_hundred_thousand_ids_chooses_what_plain_loops_choose) {
  const Logits logits = random_logits(200000, 5);
  for (const auto& [top_k, top_p] : {std::pair{0, 1.0}, {0, 0.95}, {50, 0.9}, {100000, 1.0}}) {
    const SamplingOptions options{1, top_k, top_p, 1};
    Sampler sampler(options);
    for (std::int64_t position = 0; position < 3; ++position) {
      EXPECT_EQ(sampler.choose(std::span<const double>(logits), position), plain_choice(options, logits, position, 0));
    }
  }
}

// ---- Distribution ---------------------------------------------------------------------------------------------------

constexpr std::int64_t most_draws = 1000000, fewer_draws = 200000, sequences = 4;

/// Σ (count − expected)² / expected, over what can occur; infinite if anything else did.
double chi_squared(const std::vector<std::int64_t>& counts, const std::vector<double>& weights) {
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  const auto drawn = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
  double sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = drawn * weights[i] / all, difference = static_cast<double>(counts[i]) - expected;
    if (expected > 0) sum += difference * difference / expected;
    if (expected == 0 && counts[i] > 0) return std::numeric_limits<double>::infinity();
  }
  return sum;
}

/// What chi² with so many degrees of freedom exceeds once in a million times, after Wilson and Hilferty.
double rare(std::int64_t degrees) {
  const double share = 2 / (9.0 * static_cast<double>(degrees));
  return static_cast<double>(degrees) * std::pow(1 - share + 4.7534 * std::sqrt(share), 3);
}

TEST(Sampler, draws_ids_as_often_as_their_softmax_says) {
  const Logits logits = random_logits(20, 9);
  for (const auto& options :
       {SamplingOptions{1, 0, 1, 1}, SamplingOptions{0.5, 0, 1, 2}, SamplingOptions{2, 0, 1, 3},
        SamplingOptions{1, 5, 1, 4}, SamplingOptions{1, 0, 0.8, 5}, SamplingOptions{2, 12, 0.7, 6}}) {
    Sampler sampler(options);
    std::vector<std::int64_t> counts(logits.size(), 0);
    const std::int64_t draws = options.seed == 1 ? most_draws : fewer_draws;
    for (std::int64_t i = 0; i < draws; ++i) {
      ++counts[static_cast<std::size_t>(sampler.choose(std::span<const double>(logits), i / sequences, i % sequences))];
    }
    const std::vector<double> weights = plain_weights(options, logits);
    const auto possible = std::count_if(weights.begin(), weights.end(), [](double weight) { return weight > 0; });
    ASSERT_GT(possible, 1);
    EXPECT_LT(chi_squared(counts, weights), rare(possible - 1)) << ::testing::PrintToString(counts);
  }
}

/// Of pairs all are drawn equally often: of neighbours in a sequence, of sequences at a position, and of seeds.
TEST(Sampler, draws_neighbours_sequences_and_seeds_independently) {
  const Logits flat(4, 0.0);
  Sampler sampler({1, 0, 1, 7}), other({1, 0, 1, 8});
  std::vector<std::int64_t> neighbours(16, 0), of_sequences(16, 0), of_seeds(16, 0);
  for (std::int64_t position = 0; position < 100000; ++position) {
    const auto draw = [&](Sampler& from, std::int64_t at, std::int64_t sequence) {
      return static_cast<std::size_t>(from.choose(std::span<const double>(flat), at, sequence));
    };
    const std::size_t here = draw(sampler, position, 0);
    ++neighbours[here * 4 + draw(sampler, position + 1, 0)];
    ++of_sequences[here * 4 + draw(sampler, position, 1)];
    ++of_seeds[here * 4 + draw(other, position, 0)];
  }
  for (const auto* counts : {&neighbours, &of_sequences, &of_seeds})
    EXPECT_LT(chi_squared(*counts, std::vector<double>(16, 1.0)), rare(15)) << ::testing::PrintToString(*counts);
}

// ---- Edges of the options -------------------------------------------------------------------------------------------

TEST(Sampler, at_temperature_0_and_with_top_k_1_takes_the_largest_logit_and_of_equal_ones_the_smallest_id) {
  const Logits tied{1, 3, -2, 3, 3};
  for (std::int64_t position = 0; position < 50; ++position) {
    EXPECT_EQ(choose({0, 0, 1, 1}, tied, position), 1);
    EXPECT_EQ(choose({1, 1, 1, 1}, tied, position), 1);
    EXPECT_EQ(choose({0, 3, 0.5, 1}, tied, position), 1);
    const Logits logits = random_logits(40, static_cast<std::uint64_t>(position));
    EXPECT_EQ(choose({0, 0, 1, 1}, logits, position), greedy(logits));
    EXPECT_EQ(choose({2, 1, 1, 1}, logits, position), greedy(logits));
    EXPECT_EQ(choose({1e-300, 1, 1, 1}, logits, position), greedy(logits));
  }
}

/// Which ids occur in some draws.
std::vector<std::int32_t> drawn(const SamplingOptions& options, const Logits& logits) {
  std::vector<std::int32_t> ids;
  for (std::int64_t position = 0; position < 2000; ++position) ids.push_back(choose(options, logits, position));
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

using Ids = std::vector<std::int32_t>;

TEST(Sampler, keeps_the_k_largest_logits_and_of_equal_ones_the_smallest_ids) {
  const Logits logits{0, 1, 0.5, 1, 0.5, 0.5};
  EXPECT_EQ(drawn({1, 2, 1, 0}, logits), (Ids{1, 3}));
  EXPECT_EQ(drawn({1, 3, 1, 0}, logits), (Ids{1, 2, 3}));
  EXPECT_EQ(drawn({1, 4, 1, 0}, logits), (Ids{1, 2, 3, 4}));
  EXPECT_EQ(drawn({1, 6, 1, 0}, logits), (Ids{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(drawn({1, 100, 1, 0}, logits), (Ids{0, 1, 2, 3, 4, 5}));
}

/// Probabilities ½, ¼, ⅛, ⅛, exactly.
TEST(Sampler, keeps_the_fewest_most_probable_ids_whose_probability_reaches_p) {
  const Logits logits{std::log(0.25), std::log(0.125), std::log(0.5), std::log(0.125)};
  EXPECT_EQ(drawn({1, 0, 1e-300, 0}, logits), (Ids{2}));
  EXPECT_EQ(drawn({1, 0, 0.49, 0}, logits), (Ids{2}));
  EXPECT_EQ(drawn({1, 0, 0.51, 0}, logits), (Ids{0, 2}));
  EXPECT_EQ(drawn({1, 0, 0.76, 0}, logits), (Ids{0, 1, 2}));
  EXPECT_EQ(drawn({1, 0, 0.9, 0}, logits), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(drawn({1, 0, 1, 0}, logits), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(drawn({1, 2, 0.6, 0}, logits), (Ids{2})) << "of the two that top-k leaves, one has two thirds";
  EXPECT_EQ(drawn({1, 0, 0.5, 0}, {0, 0, 0, 0}), (Ids{0, 1})) << "probabilities that reach p exactly are enough";
}

TEST(Sampler, at_extreme_temperatures_is_greedy_or_uniform) {
  const Logits logits{0, 2, 1};
  EXPECT_EQ(drawn({1e-300, 0, 1, 0}, logits), (Ids{1}));
  EXPECT_EQ(drawn({std::numeric_limits<double>::denorm_min(), 0, 1, 0}, logits), (Ids{1}));
  EXPECT_EQ(drawn({1e-300, 0, 1, 0}, {2, 0, 2}), (Ids{0, 2}));
  EXPECT_EQ(drawn({1e300, 0, 1, 0}, {0, 1e30, -1e30}), (Ids{0, 1, 2}));
  EXPECT_EQ(drawn({1, 0, 1, 0}, {-1e300, 1e300, 0}), (Ids{1}));
}

TEST(Sampler, of_one_id_chooses_it) {
  for (const double temperature : {0.0, 1.0}) EXPECT_EQ(choose({temperature, 5, 0.1, 3}, {-4}), 0);
}

/// As in a batch of any size, in one go or in two, and whatever was chosen before.
TEST(Sampler, chooses_the_same_whatever_else_is_chosen) {
  const SamplingOptions options{1, 30, 0.95, 5};
  std::vector<Logits> rows;
  for (std::uint64_t row = 0; row < 5; ++row) rows.push_back(random_logits(row % 2 == 0 ? 200 : 40, row));
  Sampler shared(options);
  for (std::int64_t position = 0; position < 40; ++position) {
    for (std::int64_t sequence = 4; sequence >= 0; --sequence) {
      const Logits& row = rows[static_cast<std::size_t>(sequence)];
      ASSERT_EQ(shared.choose(std::span<const double>(row), position, sequence),
                choose(options, row, position, sequence));
    }
  }
}

TEST(Sampler, draws_by_the_whole_position_and_sequence) {
  const Logits flat(1000, 0.0);
  const SamplingOptions options{1, 0, 1, 1};
  const std::int64_t far = std::int64_t{1} << 32;
  EXPECT_NE(choose(options, flat, 3, 0), choose(options, flat, 3 + far, 0));
  EXPECT_NE(choose(options, flat, 3, 2), choose(options, flat, 3, 2 + far));
  EXPECT_NE(choose(options, flat, 3, 2), choose(options, flat, 2, 3));
}

// ---- What is refused ------------------------------------------------------------------------------------------------

void expect_refused(const SamplingOptions& options, const std::string& says) {
  try {
    const Sampler sampler(options);
    ADD_FAILURE() << "not refused: " << says;
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.what(), says);
    EXPECT_FALSE(error.hint().empty());
  }
}

TEST(Sampler, refuses_options_outside_their_ranges) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  expect_refused({-0.5, 0, 1, 0}, "temperature = -0.5 is below 0");
  expect_refused({nan, 0, 1, 0}, "temperature = nan is not a finite number");
  expect_refused({infinity, 0, 1, 0}, "temperature = inf is not a finite number");
  expect_refused({1, -1, 1, 0}, "top_k = -1 is below 0");
  expect_refused({1, 0, 0, 0}, "top_p = 0 is not above 0");
  expect_refused({1, 0, -0.25, 0}, "top_p = -0.25 is not above 0");
  expect_refused({1, 0, 1.5, 0}, "top_p = 1.5 is above 1");
  expect_refused({1, 0, nan, 0}, "top_p = nan is not a finite number");
  EXPECT_NO_THROW(Sampler({0, 0, 1, 0}));
}

TEST(Sampler, refuses_logits_that_are_not_finite_and_none_at_all) {
  for (const double value : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity()}) {
    for (const double temperature : {0.0, 1.0}) {
      for (const std::size_t place : {0u, 3u}) {
        Logits logits(4, 1.0);
        logits[place] = value;
        try {
          choose({temperature, 0, 1, 0}, logits);
          ADD_FAILURE() << value << " at " << place;
        } catch (const NonfiniteLogitError& error) {
          EXPECT_NE(std::string(error.what()).find("id " + std::to_string(place)), std::string::npos) << error.what();
        }
      }
    }
  }
  EXPECT_THROW(choose({1, 0, 1, 0}, {}), ShapeError);
}

}  // namespace
}  // namespace bsbr::testing
