// What a run stands on.
#include "environment.hpp"

#include <array>
#include <cstdio>
#include <ctime>

#include "blas_kernel.hpp"
#include "bsbr/version.hpp"
#include "forward_options.hpp"

namespace bsbr::apps {
namespace {

/// "3.4.01", as Kokkos' releases are called.
std::string kokkos_version() {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%d.%d.%02d", KOKKOS_VERSION / 10000, KOKKOS_VERSION / 100 % 100, KOKKOS_VERSION % 100);
  return text.data();
}

/// The time in UTC, as ISO 8601 writes it.
std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

}  // namespace

Environment find_environment(int ranks) {
  Environment environment;
  environment.version = version();
  environment.git_commit = git_commit();
  environment.kokkos_version = kokkos_version();
  environment.execution_space = Execution::name();
  environment.blas = blas_name();
  environment.blas_complaint = blas_complaint();
  environment.ranks = ranks;
  environment.threads_per_rank = static_cast<int>(Kokkos::DefaultHostExecutionSpace().concurrency());
  return environment;
}

Attributes provenance(const Environment& environment, const ForwardOptions& options) {
  Attributes attributes{{"version", environment.version},
                        {"git_commit", environment.git_commit},
                        {"kokkos_version", environment.kokkos_version},
                        {"execution_space", environment.execution_space},
                        {"blas", environment.blas},
                        {"ranks", std::int64_t{environment.ranks}},
                        {"threads_per_rank", std::int64_t{environment.threads_per_rank}},
                        {"precision", std::string(to_string(options.precision))},
                        {"model", options.model},
                        {"input", options.input_name()},
                        {"created", now()}};
  if (options.input.empty()) attributes["seed"] = options.seed;
  return attributes;
}

}  // namespace bsbr::apps
