// Reads the launcher's environment variables.
#include "harness/job/launcher.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include <unistd.h>

namespace bsbr::harness {
namespace {

std::optional<int> number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  return error == std::errc() && stop == end && value >= 0 ? std::optional(value) : std::nullopt;
}

/// A variable that launchers and resource managers leave for MPI. PRTE_MCA_… are settings, which users make.
bool is_launchers(std::string_view variable) {
  using namespace std::string_view_literals;
  if (variable.starts_with("PRTE_MCA_"sv)) return false;
  for (const auto prefix :
       {"OMPI_COMM_WORLD"sv, "OMPI_MCA_orte"sv, "OMPI_MCA_ess"sv, "PRTE_"sv, "ORTE_"sv, "PMI"sv, "MPI_LOCAL"sv,
        "MV2_COMM"sv, "HYDRA_"sv, "SLURM_STEP"sv, "ALPS_"sv, "PALS_"sv, "FLUX_"sv, "JSM_"sv}) {
    if (variable.starts_with(prefix)) return true;
  }
  return false;
}

bool any_variable(bool (*is_meant)(std::string_view)) {
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    if (is_meant(*variable)) return true;
  }
  return false;
}

bool of_slurm_step(std::string_view variable) { return variable.starts_with("SLURM_STEP"); }

/// srun and flux leave their variables to all that runs within a step or a job: a shell, for example, and the programs
/// that this starts. With several tasks, or with a PMI, it is MPI's matter what they mean.
bool is_alone() {
  const bool another = any_variable([](std::string_view variable) {
    return is_launchers(variable) && !of_slurm_step(variable) && !variable.starts_with("FLUX_");
  });
  return !another && number_in("SLURM_STEP_NUM_TASKS").value_or(1) == 1 && number_in("FLUX_JOB_SIZE").value_or(1) == 1;
}

LauncherKind find_kind() {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) return LauncherKind::open_mpi;
  if (any_variable(of_slurm_step)) return LauncherKind::slurm;
  return any_variable(is_launchers) ? LauncherKind::other : LauncherKind::none;
}

}  // namespace

Launcher find_launcher() {
  // The innermost launcher first: mpirun within a Slurm job starts its own processes with Slurm, as many as there are
  // nodes. Of Slurm only the variables of a job step count: those of the job (SLURM_NTASKS) are set for a program that
  // a batch script runs once, too.
  struct Names {
    const char *ranks, *rank;
  };
  for (const Names names :
       {Names{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, Names{"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"},
        Names{"PMI_SIZE", "PMI_RANK"}, Names{"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}}) {
    const std::optional<int> ranks = number_in(names.ranks), rank = number_in(names.rank);
    if (ranks && rank && *ranks >= 1) return {*rank, *ranks, is_alone(), find_kind()};
  }
  return {number_in("PMIX_RANK").value_or(0), 1, is_alone(), find_kind()};
}

}  // namespace bsbr::harness
