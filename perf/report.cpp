// report: where the time of a forward pass goes, phase by phase, against what the machine allows (a roofline; Williams
// et al. 2009).
//
// For each phase: its time and share, useful FLOPs, bytes that have to pass between the processor and memory, and the
// time that the larger of both would take at the rates of sgemm and of copying an array, measured in the same run. `of
// limit` is that over the measured time. Before that the same model is checked against the reference on a short
// sequence.
#include <Kokkos_Core.hpp>
#include <Kokkos_Timer.hpp>
#include <cstdio>
#include <map>
#include <string>

#include "architectures/traits.hpp"
#include "blas_kernel.hpp"
#include "forward.hpp"
#include "gemm.hpp"
#include "harness/command_line/command_line.hpp"
#include "harness/command_line/config_options.hpp"
#include "harness/job/runtime.hpp"

namespace bsbr::perf {
namespace {

struct Options {
  ModelConfig config;
  std::int64_t tokens = 16384, repeat = 5;
};

/// Bytes a second that copying a large array reads and writes together: median of 5.
double copy_rate() {
  constexpr std::size_t elements = std::size_t{1} << 26;
  const Array<float*> from("report::from", elements), to("report::to", elements);
  std::vector<double> rates;
  for (int run = 0; run <= 5; ++run) {
    const Kokkos::Timer timer;
    Kokkos::parallel_for(
        "report::copy", elements, KOKKOS_LAMBDA(const std::size_t i) { to(i) = from(i); });
    Kokkos::fence();
    if (run > 0) rates.push_back(2.0 * elements * sizeof(float) / timer.seconds());
  }
  return median(rates);
}

/// Elements that a phase has to read and write of arrays that are larger than caches, in one layer and for each token:
/// D of x, a = attention_dim of queries, keys, values, gates and results each.
std::map<std::string, double> elements_per_token(const ModelConfig& config) {
  const Traits& special = traits(config.architecture);
  const auto hidden = static_cast<double>(config.hidden_dim), width = static_cast<double>(config.attention_dim());
  auto elements = special.elements_per_token(config);
  elements["project"] = hidden + static_cast<double>(special.token_projections.size()) * width;
  elements["finish"] = width + 2 * hidden;
  return elements;
}

void print_table(const Options& options, const Profile& profile, double sgemm, double memory) {
  const double runs = static_cast<double>(options.repeat),
               tokens = static_cast<double>(options.tokens * options.config.num_layers);
  auto flops = forward_flops_by_phase(options.config, 1, options.tokens);
  auto elements = elements_per_token(options.config);
  double all = 0, all_limits = 0;
  for (const auto& phase : profile.seconds) all += phase.second / runs;
  std::printf("%-14s %9s %7s %9s %9s %10s %9s %9s\n", "phase", "ms", "share", "GFLOP", "GB", "of sgemm", "of copy",
              "of limit");
  for (const auto& [phase, seconds] : profile.seconds) {
    const double time = seconds / runs, bytes = elements[phase] * tokens * sizeof(float);
    const double limit = std::max(flops[phase] / sgemm, bytes / memory);
    all_limits += limit;
    std::printf("%-14s %9.2f %6.1f%% %9.2f %9.3f %10.2f %9.2f", phase.c_str(), time * 1e3, 100 * time / all,
                flops[phase] / 1e9, bytes / 1e9, flops[phase] / time / sgemm, bytes / time / memory);
    limit > 0 ? std::printf(" %9.2f\n", limit / time) : std::printf(" %9s\n", "-");
  }
  const double useful = forward_flops(options.config, 1, options.tokens);
  std::printf("%-14s %9.2f %6.1f%% %9.2f %9s %10.2f %9s %9.2f\n", "all", all * 1e3, 100.0, useful / 1e9, "",
              useful / all / sgemm, "", all_limits / all);
}

Options parse(int argc, const char* const* argv) {
  Options options;
  harness::CommandLine line("report", "[options]",
                            "Time, FLOPs and bytes of each phase of a forward pass against the limits of this machine.",
                            "One process; OMP_NUM_THREADS says how many threads.");
  line.add_number("--tokens", "length of the sequence", options.tokens, 1);
  line.add_number("--repeat", "forwards that are timed", options.repeat, 1);
  harness::add_config_options(line, options.config);
  line.parse(argc, argv);
  harness::refuse_foreign_options(line, {options.config.architecture});
  harness::require_valid(options.config);
  return options;
}

void run(const harness::Runtime& runtime, const Options& options) {
  if (runtime.ranks() > 1)
    throw harness::UsageError("report runs on one rank, not on " + std::to_string(runtime.ranks()));
  const Weights<float> weights = random_weights<float>(options.config, 1);
  Forward(weights, runtime.comm(), 2 * options.config.chunk_size + 3).validate();
  Forward forward(weights, runtime.comm(), options.tokens);
  forward.seconds();
  Profile profile;
  std::vector<double> sgemm{sgemm_rate()};
  const double memory = copy_rate();
  for (std::int64_t repeat = 0; repeat < options.repeat; ++repeat) {
    forward.seconds(&profile);
    sgemm.push_back(sgemm_rate());
  }
  std::printf("limits         sgemm %.0f GFLOP/s (%s, median of %zu), copying an array %.1f GB/s; %d threads\n",
              median(sgemm) / 1e9, gemm_name().c_str(), sgemm.size(), memory / 1e9, Execution().concurrency());
  print_table(options, profile, median(sgemm), memory);
}

}  // namespace
}  // namespace bsbr::perf

int main(int argc, char** argv) {
  bsbr::perf::use_fast_blas_kernels(argv);
  return bsbr::harness::run_program("report", argc, argv, bsbr::perf::parse, bsbr::perf::run);
}
