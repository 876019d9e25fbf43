// What a run stands on.
#include "environment.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <fstream>

#include "bsbr/version.hpp"
#include "format.hpp"
#include "forward_options.hpp"
#include "kernels/compat.hpp"
#include "kernels/product_kernel.hpp"

namespace bsbr::apps {
namespace {

std::string product_name() {
  if constexpr (kernels::on_host) return std::string("bsbr ") + kernels::product_kernel<float>().name;
  return std::string("the BLAS of ") + Execution::name();
}

}  // namespace

std::string kokkos_version() {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%d.%d.%02d", KOKKOS_VERSION / 10000, KOKKOS_VERSION / 100 % 100, KOKKOS_VERSION % 100);
  return text.data();
}

Environment find_environment(int ranks) {
  Environment environment;
  environment.version = version();
  environment.git_commit = git_commit();
  environment.kokkos_version = kokkos_version();
  environment.execution_space = Execution::name();
  environment.blas = product_name();
  environment.ranks = ranks;
  environment.threads_per_rank = static_cast<int>(Kokkos::DefaultHostExecutionSpace().concurrency());
  return environment;
}

std::string describe(const Environment& environment, Precision precision) {
  return show_several(environment.ranks, "rank") + " of " + show_several(environment.threads_per_rank, "thread") + ", " +
         environment.execution_space + ", " + std::string(to_string(precision)) + ", " + environment.blas;
}

std::string utc_now() {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {  // "model name\t: AMD EPYC ..."
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

Attributes provenance(const Environment& environment, const ForwardOptions& options) {
  Attributes attributes{{"version", environment.version},
                        {"git_commit", environment.git_commit},
                        {"kokkos_version", environment.kokkos_version},
                        {"hdf5_version", hdf5_version()},
                        {"execution_space", environment.execution_space},
                        {"blas", environment.blas},
                        {"ranks", std::int64_t{environment.ranks}},
                        {"threads_per_rank", std::int64_t{environment.threads_per_rank}},
                        {"precision", std::string(to_string(options.precision))},
                        {"model", options.model},
                        {"input", options.input_name()},
                        {"created", utc_now()}};
  if (options.input.empty()) attributes["seed"] = options.seed;
  return attributes;
}

}  // namespace bsbr::apps
