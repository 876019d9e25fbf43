// What a run stands on.
#include "environment/environment.hpp"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bsbr/parallel.hpp"
#include "bsbr/version.hpp"
#include "harness/format.hpp"
#include "harness/job/build_info.hpp"
#include "harness/job/processors.hpp"
#include "harness/job/runtime.hpp"
#include "kernels/backend.hpp"
#include "kernels/instructions.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {  // "model name\t: AMD EPYC ..."
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return ::gethostname(name.data(), HOST_NAME_MAX) == 0 ? name.data() : "unknown";
}

/// Slurm, Flux, PBS, LSF, Grid Engine, OAR.
std::string job_id() {
  for (const char* variable : {"SLURM_JOB_ID", "FLUX_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "OAR_JOB_ID"}) {
    if (const char* id = std::getenv(variable); id != nullptr && *id != '\0') return id;
  }
  return "";
}

/// Every rank's place, on rank 0. Collective.
std::vector<Place> gather_places(MPI_Comm comm) {
  const nlohmann::json mine{{"host", host_name()},
                            {"processors", processors_of_threads().numbers()},
                            {"threads", Kokkos::DefaultHostExecutionSpace().concurrency()},
                            {"node_processors", obtainable_processors().numbers().size()}};
  constexpr auto replace = nlohmann::json::error_handler_t::replace;  // of names that are not UTF-8
  std::vector<Place> places;
  for (const std::string& text : parallel::gather_on_first(mine.dump(-1, ' ', false, replace), comm)) {
    const auto json = nlohmann::json::parse(text);
    places.push_back({json["host"], json["processors"], json["threads"], json["node_processors"]});
  }
  return places;
}

}  // namespace

Environment find_environment(const Runtime& runtime, Precision precision) {
  Environment environment;
  environment.version = version();
  environment.git_commit = git_commit();
  environment.kokkos_version = kokkos_version();
  environment.hdf5_version = hdf5_version();
  environment.mpi_version = mpi_version();
  environment.execution_space = Execution::name();
  environment.gemm = product_name(rounding_of(precision));
  environment.processor = processor_name();
  environment.job_id = job_id();
  environment.ranks = runtime.ranks();
  environment.threads_per_rank = static_cast<int>(Kokkos::DefaultHostExecutionSpace().concurrency());
  environment.places = gather_places(runtime.comm());
  if (!environment.places.empty() && kernels::on_host) {
    environment.notes = placement_notes(environment.places, runtime.launcher(), runtime.threads_chosen());
  }
  if (!runtime.threads_note().empty()) environment.notes.push_back(runtime.threads_note());
  return environment;
}

std::string describe(const Environment& environment, Precision precision) {
  return show_several(environment.ranks, "rank") + " of " + show_several(environment.threads_per_rank, "thread") +
         ", " + environment.execution_space + ", " + std::string(to_string(precision)) + ", " + environment.gemm;
}

std::string environment_rows(const Environment& environment) {
  std::string host = show_hosts(hosts_of(environment.places));
  if (!environment.processor.empty()) host += ": " + environment.processor;
  if (!environment.job_id.empty()) host += ", job " + environment.job_id;
  std::string rows = row("host", host);
  for (const std::string& note : environment.notes) rows += row("note", note);
  return rows;
}

void add_environment(nlohmann::ordered_json& json, const Environment& environment) {
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) json[name] = value;
  };
  json["notes"] = environment.notes;
  json["hosts"] = hosts_of(environment.places);
  add("processor", environment.processor);
  add("binding", show_binding(environment.places));
  add("job_id", environment.job_id);
  json["gemm"] = environment.gemm;
  json["vectors"] = kernels::instructions();
  json["kokkos_version"] = environment.kokkos_version;
  json["mpi_version"] = environment.mpi_version;
  json["hdf5_version"] = environment.hdf5_version;
  json["version"] = environment.version;
  json["git_commit"] = environment.git_commit;
}

std::string utc_now() {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

}  // namespace bsbr::apps
