// How far forwards are, and how long they will take: shares and times of passes of known length, on a clock of the
// test's own.
#include <gtest/gtest.h>

#include "progress/pace.hpp"

namespace bsbr::apps {
namespace {

ForwardProgress at(std::int64_t layer, const char* phase, double share) { return {layer, 4, phase, share}; }

TEST(Pace, nothing_is_told_of_the_time_before_there_is_anything_to_go_by) {
  Pace pace;
  pace.begin(0, 1, 100);
  pace.update(at(0, "embedding", 0), 100);
  EXPECT_EQ(pace.share(100.1), 0);
  EXPECT_FALSE(pace.seconds_left(100.1));
  EXPECT_EQ(pace.text(100.1), "forward 1 of 1, layer 1 of 4 (embedding), 0 %");
}

TEST(Pace, in_the_first_layer_the_share_is_that_of_the_operations) {
  Pace pace;
  pace.begin(0, 1, 0);
  pace.update(at(0, "finish", 0.125), 2);
  EXPECT_DOUBLE_EQ(pace.share(2), 0.125);
}

/// Operations say little of the time: attention may take half of it with a hundredth of them.
TEST(Pace, no_time_left_is_told_before_a_layer_is_done) {
  Pace pace;
  pace.begin(0, 1, 0);
  pace.update(at(0, "project", 0), 0);
  pace.update(at(0, "attention", 0.01), 0.9);
  EXPECT_FALSE(pace.seconds_left(100));
  pace.update(at(0, "finish", 0.2), 100);
  EXPECT_FALSE(pace.seconds_left(1000));
  pace.update({4, 4, "final_norm", 1}, 1000);  // nothing is left to tell of
  EXPECT_FALSE(pace.seconds_left(1000));
}

TEST(Pace, a_layer_or_a_forward_that_takes_longer_does_not_raise_the_time_left) {
  Pace pace;
  pace.begin(0, 2, 0);
  pace.update(at(1, "finish", 0.25), 10);
  EXPECT_DOUBLE_EQ(pace.seconds_left(20).value(), 20 + 40);
  EXPECT_DOUBLE_EQ(pace.seconds_left(500).value(), 20 + 40);
  pace.begin(1, 2, 600);
  EXPECT_DOUBLE_EQ(pace.seconds_left(5000).value(), 0);
}

/// Layers of ten seconds: the time within a layer counts, whatever its phases' operations are.
TEST(Pace, later_layers_go_by_the_time_of_those_before) {
  Pace pace;
  pace.begin(0, 1, 0);
  pace.update(at(0, "project", 0), 0);
  pace.update(at(1, "project", 0.25), 10);
  pace.update(at(1, "finish", 0.26), 11);
  EXPECT_DOUBLE_EQ(pace.share(15), 1.5 / 4);
  EXPECT_DOUBLE_EQ(pace.seconds_left(15).value(), 25);
  EXPECT_LT(pace.share(1000), 0.5);  // a layer that takes longer does not end by itself
  EXPECT_EQ(pace.text(15), "forward 1 of 1, layer 2 of 4 (finish), 37 %, 25 s left");
}

TEST(Pace, later_forwards_go_by_the_one_before_and_the_time_is_that_of_all) {
  Pace pace;
  pace.begin(0, 3, 0);
  pace.update(at(1, "project", 0.25), 10);
  EXPECT_DOUBLE_EQ(pace.seconds_left(10).value(), 30 + 2 * 40);
  pace.begin(1, 3, 50);  // 50 seconds after all
  pace.update(at(0, "project", 0), 50);
  EXPECT_DOUBLE_EQ(pace.share(60), 1.2 / 3);
  EXPECT_DOUBLE_EQ(pace.seconds_left(60).value(), 90);
  EXPECT_GT(pace.share(60), pace.share(50));
}

TEST(Pace, other_work_starts_anew) {
  Pace pace;
  pace.begin(0, 2, 0);
  pace.begin(1, 2, 50);
  pace.begin(0, 2, 60);
  EXPECT_EQ(pace.share(61), 0);
  EXPECT_FALSE(pace.seconds_left(61));
}

TEST(Pace, durations_are_in_units_that_people_use) {
  EXPECT_EQ(show_duration(0.001), "0.0 s");
  EXPECT_EQ(show_duration(0.42), "0.4 s");
  EXPECT_EQ(show_duration(59.4), "59 s");
  EXPECT_EQ(show_duration(59.6), "1 min 00 s");
  EXPECT_EQ(show_duration(190), "3 min 10 s");
  EXPECT_EQ(show_duration(7500), "2 h 05 min");
}

}  // namespace
}  // namespace bsbr::apps
