// bench_architectures: how fast the seven architectures are, each against bsbr.
//
// Every round runs each architecture once, and its speed is divided by that of bsbr in the same round, since the speed
// of a machine drifts; the median of the rounds' ratios is what counts. Before that each is checked against the
// reference on a short sequence.
#include <Kokkos_Core.hpp>
#include <cstdio>
#include <map>
#include <memory>

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
  std::int64_t tokens = 8192, repeat = 5;
};

Options parse(int argc, const char* const* argv) {
  Options options;
  ModelConfig& config = options.config;
  harness::CommandLine line("bench_architectures", "[options]",
                            "Measures a forward pass of each architecture against that of bsbr.",
                            "One process; OMP_NUM_THREADS says how many threads.");
  line.add_number("--tokens", "length of the sequence", options.tokens, 1);
  line.add_number("--repeat", "rounds that are timed", options.repeat, 1);
  harness::add_config_options(line, config);
  line.parse(argc, argv);
  for (const auto& entry : architectures) harness::config_for(entry.value, config);  // throws
  return options;
}

/// What was measured of one architecture, round by round.
struct Rounds {
  std::unique_ptr<Forward> forward;
  std::vector<double> seconds, speed_of_bsbr, part_of_sgemm;
};

void print_row(std::string_view name, const Options& options, const Rounds& rounds) {
  const auto [least, most] = std::minmax_element(rounds.speed_of_bsbr.begin(), rounds.speed_of_bsbr.end());
  std::printf("%-16s %9.3f %12.0f %10.2f   %4.2f to %4.2f %10.2f\n", std::string(name).c_str(), median(rounds.seconds),
              static_cast<double>(options.tokens) / median(rounds.seconds), median(rounds.speed_of_bsbr), *least, *most,
              median(rounds.part_of_sgemm));
}

void run(const harness::Runtime& runtime, const Options& options) {
  if (runtime.ranks() > 1)
    throw harness::UsageError("bench_architectures runs on one rank, not on " + std::to_string(runtime.ranks()));
  std::printf("runs on        %d threads of %s; sgemm by %s\n", Execution().concurrency(), Execution::name(),
              gemm_name().c_str());
  std::map<Architecture, Rounds> all;
  for (const auto& entry : architectures) {
    const auto weights = random_weights<float>(harness::config_for(entry.value, options.config), 1);
    Forward(weights, runtime.comm(), 2 * options.config.chunk_size + 3).validate();
    all[entry.value].forward = std::make_unique<Forward>(weights, runtime.comm(), options.tokens);
    all[entry.value].forward->seconds();  // sets its memory up
  }
  for (std::int64_t round = 0; round < options.repeat; ++round) {
    const double sgemm = sgemm_rate();
    for (auto& [architecture, rounds] : all) {
      rounds.seconds.push_back(rounds.forward->seconds());
      const double flops = forward_flops(harness::config_for(architecture, options.config), 1, options.tokens);
      rounds.part_of_sgemm.push_back(flops / rounds.seconds.back() / sgemm);
    }
    for (auto& [architecture, rounds] : all) {
      rounds.speed_of_bsbr.push_back(all[Architecture::bsbr].seconds.back() / rounds.seconds.back());
    }
  }
  std::printf("%lld tokens, medians of %lld rounds\n", static_cast<long long>(options.tokens),
              static_cast<long long>(options.repeat));
  std::printf("%-16s %9s %12s %10s %14s %10s\n", "architecture", "seconds", "tokens/s", "of bsbr", "", "of sgemm");
  for (const auto& entry : architectures) print_row(entry.name, options, all[entry.value]);
}

}  // namespace
}  // namespace bsbr::perf

int main(int argc, char** argv) {
  bsbr::perf::use_fast_blas_kernels(argv);
  return bsbr::harness::run_program("bench_architectures", argc, argv, bsbr::perf::parse, bsbr::perf::run);
}
