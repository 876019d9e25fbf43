// bench_gradients: what loss and gradients of each architecture cost, over a forward of the same tokens and against
// sgemm, and what a token takes of memory.
//
// With and without recomputation: a round is one forward with the losses of all tokens, and loss and gradients, with
// sgemm 2048³ before and after, since the speed of a machine drifts; the median of the rounds' ratios is what counts.
// Before that, loss and every gradient are checked against the reference on a short sequence.
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "blas_kernel.hpp"
#include "forward.hpp"
#include "gemm.hpp"
#include "gradient.hpp"
#include "harness/command_line/command_line.hpp"
#include "harness/command_line/config_options.hpp"
#include "harness/format.hpp"
#include "harness/job/runtime.hpp"
#include "harness/memory.hpp"

namespace bsbr::perf {
namespace {

struct Options {
  ModelConfig config;
  std::optional<Architecture> only;
  std::int64_t tokens = 16384, repeat = 5;
};

/// The configurations to be measured. Throws UsageError unless models can be built from them.
std::vector<ModelConfig> configs_of(const Options& options) {
  std::vector<ModelConfig> configs;
  for (const auto& entry : architectures) {
    if (options.only.value_or(entry.value) == entry.value)
      configs.push_back(harness::config_for(entry.value, options.config));
  }
  return configs;
}

Options parse(int argc, const char* const* argv) {
  Options options;
  options.config.head = Head::separate;
  harness::CommandLine line("bench_gradients", "[options]",
                            "Measures loss and gradients against a forward of the same tokens and against sgemm, and "
                            "their memory for each token.",
                            "One process; OMP_NUM_THREADS says how many threads.");
  line.add_choice<Architecture>("--architecture", "only one (default: each)", options.only);
  line.add_number("--tokens", "length of the sequence (default 16384)", options.tokens, 2);
  line.add_number("--repeat", "rounds that are timed (default 5)", options.repeat, 1);
  harness::add_config_options(line, options.config);
  line.parse(argc, argv);
  if (options.only) harness::refuse_foreign_options(line, {*options.only});
  for (const ModelConfig& config : configs_of(options)) require_head(config);
  return options;
}

/// What was measured round by round, of the forward or of loss and gradients.
struct Rounds {
  std::vector<double> seconds, forwards, part_of_sgemm;

  void add(double time, double of_forward, double flops, double sgemm) {
    seconds.push_back(time);
    forwards.push_back(time / of_forward);
    part_of_sgemm.push_back(flops / time / sgemm);
  }
};

/// Of one architecture.
struct Times {
  Rounds forward;
  std::array<Rounds, recomputations.size()> gradients;
};

Times measure_times(const Weights<float>& weights, MPI_Comm comm, const Options& options) {
  Gradient gradient(weights, comm, options.tokens);
  gradient.forward_seconds();  // sets its memory up
  const double flops = gradient_flops(weights.config(), options.tokens);
  Times times;
  for (std::size_t i = 0; i < times.gradients.size(); ++i) {
    const Recompute recompute = recomputations[i].value;
    gradient.seconds(recompute);  // likewise
    double before = sgemm_rate();
    for (std::int64_t round = 0; round < options.repeat; ++round) {
      const double of_forward = gradient.forward_seconds(), of_gradients = gradient.seconds(recompute);
      const double after = sgemm_rate(), sgemm = (before + after) / 2;
      times.forward.add(of_forward, of_forward, flops / 3, sgemm);
      times.gradients[i].add(of_gradients, of_forward, flops, sgemm);
      before = after;
    }
  }
  return times;
}

/// The resident peak of twice as many tokens is higher: by that much for each. None where the peak of the process
/// cannot be started again.
std::optional<double> bytes_per_token(const Weights<float>& weights, MPI_Comm comm, std::int64_t tokens,
                                      Recompute recompute) {
  bool restarted = true;
  const auto peak = [&](std::int64_t length) {
    restarted = harness::restart_peak_resident_bytes() && restarted;
    Gradient(weights, comm, length).seconds(recompute);
    return harness::peak_resident_bytes();
  };
  const std::int64_t shorter = peak(tokens), longer = peak(2 * tokens);
  if (!restarted) return std::nullopt;
  return static_cast<double>(longer - shorter) / static_cast<double>(tokens);
}

void print_row(const std::string& what, const Rounds& rounds, std::optional<double> bytes) {
  const auto [least, most] = std::minmax_element(rounds.forwards.begin(), rounds.forwards.end());
  const std::string memory = bytes ? harness::show_number("%.0f", *bytes) : "-";
  std::printf("  %-26s %9.3f %10.2f   %4.2f to %4.2f %10.3f %12s\n", what.c_str(), median(rounds.seconds),
              median(rounds.forwards), *least, *most, median(rounds.part_of_sgemm), memory.c_str());
}

void measure(const ModelConfig& config, MPI_Comm comm, const Options& options) {
  const Sequence longest = gradient_sequence(comm, 1, 2 * options.tokens, config.chunk_size);
  harness::require_memory(comm,
                          gradient_bytes<float>(config, longest, Recompute::none) +
                              workspace_bytes<float>(config, longest) + output_layer_bytes<float>(config, longest),
                          "fewer --tokens");
  const auto weights = random_weights<float>(config, 1);
  Gradient(weights, comm, 2 * config.chunk_size + 3).validate();
  const Times times = measure_times(weights, comm, options);
  std::printf("%-28s %9s %10s %14s %10s %12s\n", std::string(to_string(config.architecture)).c_str(), "seconds",
              "of forward", "", "of sgemm", "bytes/token");
  print_row("forward", times.forward, std::nullopt);
  for (std::size_t i = 0; i < times.gradients.size(); ++i) {
    const auto& [recompute, name] = recomputations[i];
    print_row("gradients, recompute " + std::string(name), times.gradients[i],
              bytes_per_token(weights, comm, options.tokens, recompute));
  }
  std::fflush(stdout);
}

void run(const harness::Runtime& runtime, const Options& options) {
  if (runtime.ranks() > 1)
    throw harness::UsageError("bench_gradients runs on one rank, not on " + std::to_string(runtime.ranks()));
  const ModelConfig& sizes = options.config;
  std::printf("model          D=%lld, %lld heads, %lld layers, ff %lld, chunk %lld, %lld ids; %lld tokens\n",
              static_cast<long long>(sizes.hidden_dim), static_cast<long long>(sizes.num_heads),
              static_cast<long long>(sizes.num_layers), static_cast<long long>(sizes.ff_dim),
              static_cast<long long>(sizes.chunk_size), static_cast<long long>(sizes.vocab_size),
              static_cast<long long>(options.tokens));
  std::printf("runs on        %d threads of %s; sgemm by %s; medians of %lld rounds\n", Execution().concurrency(),
              Execution::name(), gemm_name().c_str(), static_cast<long long>(options.repeat));
  for (const ModelConfig& config : configs_of(options)) measure(config, runtime.comm(), options);
}

}  // namespace
}  // namespace bsbr::perf

int main(int argc, char** argv) {
  bsbr::perf::use_fast_blas_kernels(argv);
  return bsbr::harness::run_program("bench_gradients", argc, argv, bsbr::perf::parse, bsbr::perf::run);
}
