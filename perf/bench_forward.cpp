// bench_forward: how close a whole forward pass comes to the matrix products it is made of, and what a token takes of
// memory.
//
// Prints the useful FLOPs a second of the forward over those of sgemm 2048³ by the same BLAS and threads. Both are
// measured in turn, since the speed of a machine drifts; the median of the pairs' ratios is what counts. Before that
// the same model is checked against the reference on a short sequence: a wrong result is not worth timing.
#include <Kokkos_Core.hpp>
#include <cstdio>
#include <vector>

#include "blas_kernel.hpp"
#include "forward.hpp"
#include "gemm.hpp"
#include "harness/command_line/command_line.hpp"
#include "harness/command_line/config_options.hpp"
#include "harness/job/runtime.hpp"
#include "harness/memory.hpp"

namespace bsbr::perf {
namespace {

struct Options {
  ModelConfig config;
  std::int64_t tokens = 16384, repeat = 5;
};

void measure_speed(const Weights<float>& weights, MPI_Comm comm, const Options& options) {
  Forward forward(weights, comm, options.tokens);
  forward.seconds();
  const double flops = forward_flops(options.config, 1, options.tokens);
  std::vector<double> ratios, seconds;
  double before = sgemm_rate();
  std::printf("%8s %12s %14s %14s %10s\n", "repeat", "seconds", "GFLOP/s", "sgemm GFLOP/s", "ratio");
  for (std::int64_t repeat = 1; repeat <= options.repeat; ++repeat) {
    seconds.push_back(forward.seconds());
    const double after = sgemm_rate(), sgemm = (before + after) / 2, rate = flops / seconds.back();
    ratios.push_back(rate / sgemm);
    std::printf("%8lld %12.3f %14.1f %14.1f %10.3f\n", static_cast<long long>(repeat), seconds.back(), rate / 1e9,
                sgemm / 1e9, ratios.back());
    std::fflush(stdout);
    before = after;
  }
  std::printf("ratio          %.3f of sgemm, median of %zu (%.3f to %.3f)\n", median(ratios), ratios.size(),
              *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()));
  std::printf("speed          %.0f tokens per second\n", static_cast<double>(options.tokens) / median(seconds));
}

/// The resident peak of a process only grows: the longer sequence after the shorter one tells what a token adds.
void measure_memory(const Weights<float>& weights, MPI_Comm comm, const Options& options) {
  const auto peak = [&](std::int64_t tokens) {
    Forward(weights, comm, tokens).seconds();
    return harness::peak_resident_bytes();
  };
  const std::int64_t length = 2 * options.tokens;
  const Sequence longest(comm, 1, 3 * length, weights.config().chunk_size);
  harness::require_memory(comm, workspace_bytes<float>(weights.config(), longest), "fewer --tokens");
  const std::int64_t shorter = peak(length), longer = peak(3 * length);
  std::printf("memory         %.2f KiB for each token added, between %lld and %lld tokens\n",
              static_cast<double>(longer - shorter) / static_cast<double>(2 * length) / 1024,
              static_cast<long long>(length), static_cast<long long>(3 * length));
}

Options parse(int argc, const char* const* argv) {
  Options options;
  ModelConfig& config = options.config;
  harness::CommandLine line("bench_forward", "[options]",
                            "Measures a forward pass of bsbr against sgemm, and its memory for each token.",
                            "One process; OMP_NUM_THREADS says how many threads.");
  line.add_number("--tokens", "length of the sequence", options.tokens, 1);
  line.add_number("--repeat", "forwards that are timed", options.repeat, 1);
  harness::add_config_options(line, config);
  line.parse(argc, argv);
  harness::refuse_foreign_options(line, {config.architecture});
  harness::require_valid(config);
  return options;
}

void run(const harness::Runtime& runtime, const Options& options) {
  const MPI_Comm comm = runtime.comm();
  if (runtime.ranks() > 1)
    throw harness::UsageError("bench_forward runs on one rank, not on " + std::to_string(runtime.ranks()));
  const Weights<float> weights = random_weights<float>(options.config, 1);
  std::printf("model          D=%lld, %lld heads, %lld layers, ff %lld, chunk %lld; %lld tokens\n",
              static_cast<long long>(options.config.hidden_dim), static_cast<long long>(options.config.num_heads),
              static_cast<long long>(options.config.num_layers), static_cast<long long>(options.config.ff_dim),
              static_cast<long long>(options.config.chunk_size), static_cast<long long>(options.tokens));
  std::printf("runs on        %d threads of %s; sgemm by %s\n", Execution().concurrency(), Execution::name(),
              gemm_name().c_str());
  Forward(weights, comm, 2 * options.config.chunk_size + 3).validate();
  measure_speed(weights, comm, options);
  measure_memory(weights, comm, options);
}

}  // namespace
}  // namespace bsbr::perf

int main(int argc, char** argv) {
  bsbr::perf::use_fast_blas_kernels(argv);
  return bsbr::harness::run_program("bench_forward", argc, argv, bsbr::perf::parse, bsbr::perf::run);
}
