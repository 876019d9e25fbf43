// bsbr_init: makes a model file with random weights.
#include <Kokkos_Core.hpp>

#include "bsbr/io.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/weights.hpp"
#include "harness/format.hpp"
#include "harness/job/runtime.hpp"
#include "harness/memory.hpp"
#include "programs/init_options.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

template <class Real>
void write(const InitOptions& options) {
  write_model<Real>(options.output, random_weights<Real>(options.config, static_cast<std::uint64_t>(options.seed)));
}

/// The work of one process.
void make_model(const InitOptions& options) {
  const std::int64_t bytes = parameter_count(options.config) * (options.precision == Precision::float32 ? 4 : 8);
  check_output_path(options.output, MPI_COMM_SELF);
  require_memory(MPI_COMM_SELF, bytes, "a smaller model, or --precision float");
  if (options.precision == Precision::float32)
    write<float>(options);
  else
    write<double>(options);
}

std::string describe(const InitOptions& options) {
  const std::int64_t parameters = parameter_count(options.config);
  const std::string warning = options.config.warning();
  return options.output + ": " + std::string(to_string(options.config.architecture)) + ", " + show_count(parameters) +
         " parameters, " + show_bytes(parameters * (options.precision == Precision::float32 ? 4 : 8)) + "\n" +
         (warning.empty() ? "" : "note: " + warning + "\n");
}

/// Under a launcher one rank writes; the others hear how it went.
void run(const Runtime& runtime, const InitOptions& options) {
  parallel::agree(runtime.comm(), [&] {
    if (runtime.is_first()) make_model(options);
  });
  runtime.print(describe(options));
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_init", argc, argv, bsbr::apps::parse_init_options, bsbr::apps::run);
}
