// The learning rate of each step, against numbers that are worked out by hand.
#include "bsbr/training.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "bsbr/error.hpp"

namespace bsbr::testing {
namespace {

TEST(LearningRate, rises_in_a_line_and_falls_by_half_a_cosine) {
  const LearningRate rate{.learning_rate = 8, .min_learning_rate = 2, .warmup_steps = 4, .decay_steps = 10};
  for (const std::int64_t step : {1, 2, 3, 4}) EXPECT_EQ(rate.at(step), 2.0 * static_cast<double>(step));
  EXPECT_NEAR(rate.at(5), 5 + 3 * std::sqrt(0.75), 1e-14);  // cos 30°
  EXPECT_NEAR(rate.at(6), 5 + 3 * 0.5, 1e-14);
  EXPECT_NEAR(rate.at(7), 5, 1e-14);
  EXPECT_NEAR(rate.at(8), 5 - 3 * 0.5, 1e-14);
  EXPECT_NEAR(rate.at(9), 5 - 3 * std::sqrt(0.75), 1e-14);
  for (const std::int64_t step : {10, 11, 1000000}) EXPECT_EQ(rate.at(step), 2);
}

TEST(LearningRate, without_warm_up_the_cosine_begins_at_once) {
  const LearningRate rate{.learning_rate = 1, .min_learning_rate = 0, .warmup_steps = 0, .decay_steps = 2};
  EXPECT_NEAR(rate.at(1), 0.5, 1e-15);
  EXPECT_EQ(rate.at(2), 0);
  EXPECT_EQ(rate.at(3), 0);
}

TEST(LearningRate, without_decay_stays_where_the_warm_up_ends) {
  const LearningRate rate{.learning_rate = 6, .min_learning_rate = 1, .warmup_steps = 3, .decay_steps = 0};
  EXPECT_EQ(rate.at(1), 2);
  EXPECT_EQ(rate.at(3), 6);
  EXPECT_EQ(rate.at(4), 6);
  EXPECT_EQ(rate.at(std::numeric_limits<std::int64_t>::max()), 6);
  EXPECT_EQ((LearningRate{.learning_rate = 6}.at(1)), 6);
}

TEST(LearningRate, a_decay_that_ends_within_the_warm_up_waits_for_its_end) {
  for (const std::int64_t decay : {1, 3, 4}) {
    const LearningRate rate{.learning_rate = 4, .min_learning_rate = 1, .warmup_steps = 4, .decay_steps = decay};
    EXPECT_EQ(rate.at(3), 3) << decay;
    EXPECT_EQ(rate.at(4), 4) << decay;
    EXPECT_EQ(rate.at(5), 1) << decay;
  }
}

std::string complaint(const LearningRate& rate) {
  try {
    rate.validate();
  } catch (const ConfigError& error) {
    EXPECT_FALSE(error.hint().empty());
    return error.what();
  }
  return "none";
}

TEST(LearningRate, refuses_what_makes_no_sense) {
  EXPECT_EQ(complaint({.learning_rate = 0.5, .min_learning_rate = 0.5, .warmup_steps = 1, .decay_steps = 1}), "none");
  EXPECT_EQ(complaint({.learning_rate = 0}), "learning_rate = 0 is not above 0");
  EXPECT_EQ(complaint({.learning_rate = NAN}), "learning_rate = nan is not a finite number");
  EXPECT_EQ(complaint({.min_learning_rate = -1}), "min_learning_rate = -1 is below 0");
  EXPECT_EQ(complaint({.learning_rate = 0.1, .min_learning_rate = 0.2}),
            "min_learning_rate = 0.2 is above learning_rate = 0.1");
  EXPECT_EQ(complaint({.warmup_steps = -1}), "warmup_steps = -1 is below 0");
  EXPECT_EQ(complaint({.decay_steps = -1}), "decay_steps = -1 is below 0");
}

}  // namespace
}  // namespace bsbr::testing
