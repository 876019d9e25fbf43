// Where a result comes from.
#include "report/provenance.hpp"

#include "kernels/instructions.hpp"

namespace bsbr::apps {

Attributes provenance(const Environment& environment, const ModelOptions& options) {
  Attributes attributes{{"version", environment.version},
                        {"git_commit", environment.git_commit},
                        {"kokkos_version", environment.kokkos_version},
                        {"hdf5_version", environment.hdf5_version},
                        {"mpi_version", environment.mpi_version},
                        {"execution_space", environment.execution_space},
                        {"gemm", environment.gemm},
                        {"vectors", kernels::instructions()},
                        {"ranks", std::int64_t{environment.ranks}},
                        {"threads_per_rank", std::int64_t{environment.threads_per_rank}},
                        {"precision", std::string(to_string(options.precision))},
                        {"model", options.model},
                        {"input", options.input_name()},
                        {"created", utc_now()}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) attributes[name] = value;
  };
  add("processor", environment.processor);
  add("hosts", show_hosts(hosts_of(environment.places)));
  add("binding", show_binding(environment.places));
  add("job_id", environment.job_id);
  return attributes;
}

}  // namespace bsbr::apps
