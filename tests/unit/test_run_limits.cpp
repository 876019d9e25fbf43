// What ends a training run early, with a Slurm job whose end is near.
#include <gtest/gtest.h>
#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "training/run_limits.hpp"

namespace bsbr::apps {
namespace {

constexpr double spare = 30;  // seconds that are left to the program: docs/training.md, "At a centre"
constexpr double margin = 5;  // seconds that a test takes at most

/// What is due behind a step, and what one like it has taken.
struct Due {
  std::int64_t validation_steps = 0;
  double validation_seconds = 0;  // 0: there has been none
};

/// The reason to stop in a job that ends in so many seconds, of which a step has taken 100 and a checkpoint 20.
std::string reason_in_job(double seconds_left, Due due = {}) {
  const auto now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  ::setenv("SLURM_JOB_END_TIME", std::to_string(now + seconds_left).c_str(), 1);
  RunLimits limits({}, {});
  ::unsetenv("SLURM_JOB_END_TIME");
  limits.note_step(100);
  limits.note_saving(20);
  limits.note_validation(due.validation_seconds);
  return limits.reason_to_stop(MPI_COMM_SELF, 7, true, due.validation_steps);
}

const std::string end_of_job = "the end of the Slurm job";

TEST(RunLimits, BeforeTheEndOfAJobThereIsTimeForAStepAndACheckpointTwice) {
  EXPECT_EQ(reason_in_job(2 * 120 + spare - margin), end_of_job);
  EXPECT_EQ(reason_in_job(2 * 120 + spare + margin), "");
}

TEST(RunLimits, AValidationThatIsDueMustFitInToo) {
  EXPECT_EQ(reason_in_job(2 * 160 + spare - margin, {9, 40}), end_of_job);
  EXPECT_EQ(reason_in_job(2 * 160 + spare + margin, {9, 40}), "");
  EXPECT_EQ(reason_in_job(2 * 160 + spare - margin, {0, 40}), "");  // none is due
  // Until there has been one, its steps are taken for those of the training.
  EXPECT_EQ(reason_in_job(2 * 420 + spare - margin, {3, 0}), end_of_job);
  EXPECT_EQ(reason_in_job(2 * 420 + spare + margin, {3, 0}), "");
}

std::string reason_of(std::optional<double> max_seconds, std::optional<std::int64_t> stop_after, bool is_last) {
  return RunLimits(max_seconds, stop_after).reason_to_stop(MPI_COMM_SELF, 7, is_last, 1);
}

TEST(RunLimits, TheLastStepIsNotStoppedByLimitsThatTheUserHasSet) {
  EXPECT_EQ(reason_of({}, 7, false), "--stop-after");
  EXPECT_EQ(reason_of({}, 8, false), "");
  EXPECT_EQ(reason_of(0.0, {}, false), "--max-seconds");
  EXPECT_EQ(reason_of(0.0, 7, true), "");
}

}  // namespace
}  // namespace bsbr::apps
