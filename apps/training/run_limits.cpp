#include "training/run_limits.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "bsbr/parallel.hpp"

namespace bsbr::apps {
namespace {

constexpr double spare_seconds = 30;  // of a job: for the program to end

/// Slurm tells it in SLURM_JOB_END_TIME, since version 22.05.
std::optional<double> end_of_job() {
  const char* text = std::getenv("SLURM_JOB_END_TIME");
  if (text == nullptr) return std::nullopt;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  return end != text && *end == '\0' && seconds > 0 ? std::optional(seconds) : std::nullopt;
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

constexpr std::array<const char*, 6> reasons{
    "", "the end of the Slurm job", "--max-seconds", "--stop-after", "SIGUSR1", "SIGTERM"};

/// Ranks agree on the last of `reasons` that any of them has.
std::int64_t number_of(std::string_view reason) {
  return std::find(reasons.begin(), reasons.end(), reason) - reasons.begin();
}

}  // namespace

RunLimits::RunLimits(std::optional<double> max_seconds, std::optional<std::int64_t> stop_after)
    : m_max_seconds(max_seconds), m_stop_after(stop_after), m_job_end(end_of_job()) {}

double RunLimits::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - m_start).count();
}

/// Whether there is no time for the validation that is due, another step and the checkpoint behind it.
bool RunLimits::job_ends_soon(std::int64_t validation_steps) const {
  if (!m_job_end) return false;
  // One without gradients takes less time than a step: known enough until there has been a validation.
  const double validation = m_validation > 0 ? m_validation : static_cast<double>(validation_steps) * m_step;
  const double needed = m_step + m_saving + (validation_steps > 0 ? validation : 0);
  return seconds_since_1970() + 2 * needed + spare_seconds > *m_job_end;
}

const char* RunLimits::own_reason(std::int64_t step, bool is_last, std::int64_t validation_steps) const {
  if (const char* signal = harness::StopSignals::received()) return signal;
  if (!is_last && m_stop_after && step >= *m_stop_after) return "--stop-after";
  if (!is_last && m_max_seconds && seconds() >= *m_max_seconds) return "--max-seconds";
  return job_ends_soon(validation_steps) ? "the end of the Slurm job" : "";
}

std::string RunLimits::reason_to_stop(MPI_Comm comm, std::int64_t step, bool is_last, std::int64_t validation_steps) {
  const std::int64_t number =
      parallel::all_reduce(number_of(own_reason(step, is_last, validation_steps)), MPI_MAX, comm);
  return reasons[static_cast<std::size_t>(number)];
}

}  // namespace bsbr::apps
