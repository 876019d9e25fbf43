// bench_kernels: each kernel by itself, those of gradients too, and whole forwards, with Google Benchmark, against
// sgemm of the best BLAS kernel of this CPU, or of the GPU's vendor. With --large, which must come first, also products
// and forwards of the sizes that GPUs are for, and `blas/…`: the product of that BLAS of the same shape as `product/…`,
// which has biases to add besides.
//
// Counters: `executed` and `useful` are FLOPs over those of sgemm 2048³ with the same threads, measured before and
// after each benchmark. Useful is what forward_flops counts: the causal half of a triangle. Executed also counts what
// whole tiles add to it. A model with the same sizes is first checked against the reference: what is wrong is not worth
// timing.
#include <benchmark/benchmark.h>

#include <Kokkos_Core.hpp>
#include <Kokkos_Random.hpp>
#include <algorithm>
#include <ctime>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "blas_kernel.hpp"
#include "bsbr/attention.hpp"
#include "forward.hpp"
#include "gemm.hpp"
#include "harness/command_line/config_options.hpp"
#include "kernels/outer_product.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/rows.hpp"
#include "kernels/token_loss_gradient.hpp"
#include "kernels/token_softmax_gradient.hpp"

namespace bsbr::perf {
namespace {

Array<float***> random_rows(const char* label, std::int64_t rows, std::int64_t width) {
  Array<float***> array(Kokkos::view_alloc(std::string(label), Kokkos::WithoutInitializing), 1, rows, width);
  Kokkos::Random_XorShift64_Pool<Execution> pool(7);
  Kokkos::fill_random(array, pool, -1.F, 1.F);
  return array;
}

/// Counts a benchmark's FLOPs against sgemm, measured when it begins and when it ends.
class AgainstSgemm {
 public:
  explicit AgainstSgemm(benchmark::State& state) : m_state(state), m_before(sgemm_rate()) {}

  /// `seconds` of all iterations; FLOPs of one.
  void report(double seconds, double useful, double executed) {
    const double sgemm = (m_before + sgemm_rate()) / 2, runs = static_cast<double>(m_state.iterations());
    m_state.counters["useful"] = useful * runs / seconds / sgemm;
    m_state.counters["executed"] = executed * runs / seconds / sgemm;
    m_state.counters["sgemm_GFLOPs"] = sgemm / 1e9;
  }

 private:
  benchmark::State& m_state;
  double m_before;
};

ModelConfig model_of(std::int64_t chunk_size, std::int64_t width) {
  ModelConfig config;
  config.architecture = Architecture::bsbr;
  config.hidden_dim = 8 * width;
  config.num_heads = 8;
  config.num_layers = 1;
  config.ff_dim = 16;
  config.chunk_size = chunk_size;
  return config;
}

/// FLOPs of one phase of bsbr's attention, causal.
struct Flops {
  double useful, executed;
};

/// Of `products` products of rows of `inner` elements for each query and key of a causal triangle.
Flops flops_of_triangles(double products, double inner, double chunk, double chunks) {
  // Tiles of 64 queries meet 64 keys; on the diagonal rows of keys skip the queries before them, in vectors of 16: 5/8
  // of a tile.
  const double tiles = chunk / 64, pairs = chunks * 4096 * (tiles * (tiles - 1) / 2 + tiles * 5 / 8);
  return {2 * products * inner * chunks * chunk * (chunk + 1) / 2, 2 * products * inner * pairs};
}

Flops flops_of(const std::string& phase, const ModelConfig& config, double length) {
  const auto width = static_cast<double>(config.head_dim()), inner = static_cast<double>(config.hidden_dim);
  const auto chunk = static_cast<double>(config.chunk_size), chunks = length / chunk;
  if (phase == "within_chunk") return flops_of_triangles(2, inner, chunk, chunks);
  if (phase == "mixing") {
    const double tiles = chunks / 64, pairs = 4096 * (tiles * (tiles - 1) / 2 + tiles * 5 / 8);
    const double scores = 2 * inner * pairs * (width * width / 512);  // once for each block of 512 elements
    return {2 * inner * width * chunks * (chunks - 1) / 2, 2 * inner * width * pairs + scores};
  }
  return {2 * width * inner * length, 2 * width * inner * length};  // states, retrieval
}

void attention_phase(benchmark::State& state, const std::string& phase, std::int64_t width, std::int64_t chunk_size,
                     std::int64_t length) {
  const ModelConfig config = model_of(chunk_size, width);
  Forward(random_weights<float>(config, 1), MPI_COMM_WORLD, 2 * chunk_size + 3).validate();
  const Sequence sequence(MPI_COMM_WORLD, 1, length, chunk_size);
  const auto attention = Attention<float>::create(config, sequence);
  const std::int64_t inner = config.hidden_dim;
  const auto rows = random_rows("bench::projections", length, 3 * inner),
             retrieval = random_rows("bench::retrieval", sequence.num_chunks(), 2 * inner);
  const auto columns = [&](const Array<float***>& of, std::int64_t first) {
    return Strided<const float***>(
        Kokkos::subview(of, Kokkos::ALL(), Kokkos::ALL(), std::make_pair(first * inner, (first + 1) * inner)));
  };
  AttentionInput<float> input;
  input.query = columns(rows, 0);
  input.key = columns(rows, 1);
  input.value = columns(rows, 2);
  input.retrieval_query = columns(retrieval, 0);
  input.retrieval_key = columns(retrieval, 1);
  const Array<float***> output("bench::output", 1, length, inner);
  const PaddingMask mask(Execution(), sequence);
  attention->forward(Execution(), mask, input, output);
  AgainstSgemm limit(state);
  double all = 0;
  for ([[maybe_unused]] auto run : state) {
    Profile profile;
    attention->forward(Execution(), mask, input, output, &profile);
    state.SetIterationTime(profile.seconds.at(phase));
    all += profile.seconds.at(phase);
  }
  const Flops flops = flops_of(phase, config, static_cast<double>(length));
  limit.report(all, flops.useful, flops.executed);
}

/// The gradient of an attention, in processor time. `forwards`: over the processor time of a forward of the same
/// tokens.
void attention_gradient(benchmark::State& state, const ModelConfig& config) {
  constexpr std::int64_t length = 16384;
  const Sequence sequence(MPI_COMM_WORLD, 1, length, config.chunk_size);
  const auto attention = Attention<float>::create(config, sequence);
  const PaddingMask mask(Execution(), sequence);
  const auto rows = [&](const char* label) { return random_rows(label, length, config.attention_dim()); };
  AttentionInput<float> input;
  input.query = rows("bench::query");
  input.key = rows("bench::key");
  input.value = rows("bench::value");
  const auto output = rows("bench::output"), from_output = rows("bench::do");
  AttentionGradient<float> gradients;
  gradients.query = rows("bench::dq");
  gradients.key = rows("bench::dk");
  gradients.value = rows("bench::dv");
  if (config.architecture == Architecture::gau) {
    input.gate = rows("bench::gate");
    gradients.gate = rows("bench::dgate");
  }
  if (config.architecture == Architecture::bsbr) {
    const auto chunks = [&](const char* label) {
      return random_rows(label, sequence.num_chunks(), config.attention_dim());
    };
    input.retrieval_query = chunks("bench::r");
    input.retrieval_key = chunks("bench::h");
    gradients.retrieval_query = chunks("bench::dr");
    gradients.retrieval_key = chunks("bench::dh");
  }
  AttentionRecord<float> record;
  const auto forward = [&] { attention->forward(Execution(), mask, input, output, nullptr, nullptr, &record); };
  const auto backward = [&] { attention->backward(Execution(), mask, input, record, output, from_output, gradients); };
  const auto seconds_of = [](const auto& work) {
    const std::clock_t begin = std::clock();
    work();
    Execution().fence();
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  };
  forward();
  backward();
  double forwards = 0, backwards = 0;
  for ([[maybe_unused]] auto run : state) {
    forwards += seconds_of(forward);
    const double seconds = seconds_of(backward);
    state.SetIterationTime(seconds);
    backwards += seconds;
  }
  state.counters["forwards"] = backwards / forwards;
}

/// Softmax attention within chunks, causal, of 8 heads: its forward, which keeps log-sums, and its gradients. A chunk
/// as long as the sequence is attention to all earlier tokens.
void softmax_pass(benchmark::State& state, const std::string& pass, std::int64_t width, std::int64_t chunk_size,
                  std::int64_t length) {
  constexpr std::int64_t heads = 8;
  const std::int64_t inner = heads * width;
  const auto rows = random_rows("bench::projections", length, 3 * inner),
             output = random_rows("bench::output", length, inner), of_output = random_rows("bench::do", length, inner),
             of_query = random_rows("bench::dq", length, inner), of_key = random_rows("bench::dk", length, inner),
             of_value = random_rows("bench::dv", length, inner);
  const auto columns = [&](std::int64_t first) {
    return Strided<const float***>(
        Kokkos::subview(rows, Kokkos::ALL(), Kokkos::ALL(), std::make_pair(first * inner, (first + 1) * inner)));
  };
  const Array<float***> log_sum("bench::log_sum", 1, heads, length), delta("bench::delta", 1, heads, length);
  const kernels::SoftmaxTokens<float> tokens{columns(0), of_output, log_sum, delta, 0, {columns(1), columns(2), {}, 0}};
  const kernels::WithinChunk visible{Causality::causal, chunk_size, length};
  const auto scale = kernels::score_scale<float>(width);
  const Execution execution;
  const auto run_pass = [&](const std::string& of) {
    if (of == "forward")
      kernels::token_softmax_with_log_sums<float>(execution, "bench::softmax", heads, visible, scale, tokens.query,
                                                  tokens.keys, output, log_sum, 0, 0, length);
    if (of == "deltas") kernels::token_deltas<float>(execution, "bench::deltas", output, of_output, delta);
    if (of == "queries")
      kernels::token_query_gradients<float>(execution, "bench::query_gradients", heads, visible, scale, tokens,
                                            of_query, 0, 0, length);
    if (of == "queries_and_deltas")
      kernels::token_query_gradients_and_deltas<float>(execution, "bench::query_gradients", heads, visible, scale,
                                                       tokens, delta, of_query, 0, 0, length);
    if (of == "keys")
      kernels::token_key_gradients<float>(execution, "bench::key_gradients", heads, visible, scale, tokens, of_key,
                                          of_value, 0, 0, length);
    execution.fence();
  };
  run_pass("forward"), run_pass("deltas");
  AgainstSgemm limit(state);
  double all = 0;
  for ([[maybe_unused]] auto run : state) {
    const Kokkos::Timer timer;
    run_pass(pass);
    state.SetIterationTime(timer.seconds());
    all += timer.seconds();
  }
  const double products = pass == "forward" ? 2 : pass == "keys" ? 4 : 3;
  const Flops flops = flops_of_triangles(products, static_cast<double>(inner), static_cast<double>(chunk_size),
                                         static_cast<double>(length) / static_cast<double>(chunk_size));
  limit.report(all, flops.useful, flops.executed);
}

constexpr std::int64_t product_rows = 16384;

/// One product, biases added.
void product(benchmark::State& state, std::int64_t in, std::int64_t out) {
  constexpr std::int64_t length = product_rows;
  const auto rows = random_rows("bench::rows", length, in), result = random_rows("bench::result", length, out);
  const auto matrix = random_rows("bench::weight", out, in);
  const kernels::ProductWeight<float> weight(Array<const float**>(matrix.data(), out, in));
  const kernels::PanelBuffers<float> buffers(std::max(in, out));
  const auto load = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t t, float* data) {
    kernels::copy(team, static_cast<int>(rows.extent(2)), &rows(batch, t, 0), data);
  };
  const auto store = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t t, const float* data) {
    kernels::copy(team, static_cast<int>(result.extent(2)), data, &result(batch, t, 0));
  };
  AgainstSgemm limit(state);
  double all = 0;
  for ([[maybe_unused]] auto run : state) {
    const Kokkos::Timer timer;
    kernels::panel_chain(Execution(), "bench::product", {1, length}, buffers, load, kernels::Stage{weight, store});
    Execution().fence();
    state.SetIterationTime(timer.seconds());
    all += timer.seconds();
  }
  const double flops = 2.0 * length * static_cast<double>(in * out);
  limit.report(all, flops, flops);
}

/// The same product by the BLAS.
void blas_product(benchmark::State& state, std::int64_t in, std::int64_t out) {
  AgainstSgemm limit(state);
  const double flops = 2.0 * static_cast<double>(product_rows * in * out);
  double all = 0;
  for ([[maybe_unused]] auto run : state) {
    const double seconds = flops / gemm_rate(product_rows, out, in);
    state.SetIterationTime(seconds);
    all += seconds;
  }
  limit.report(all, flops, flops);
  state.SetLabel(gemm_name());
}

/// The gradient of a weight [out, in] over the rows of one leaf.
void outer_product(benchmark::State& state, std::int64_t in, std::int64_t out) {
  constexpr std::int64_t leaf = 1024;
  const auto rows_of = [](const Array<float***>& array) {
    return Array<float**>(array.data(), array.extent(1), array.extent(2));
  };
  const auto output_gradient = rows_of(random_rows("bench::output_gradient", leaf, out)),
             input = rows_of(random_rows("bench::input", leaf, in)),
             weight_gradient = rows_of(random_rows("bench::weight_gradient", out, in));
  const kernels::OuterProductBuffers<float> buffers(kernels::OuterProductBuffers<float>::elements(out, in));
  AgainstSgemm limit(state);
  double all = 0;
  for ([[maybe_unused]] auto run : state) {
    const Kokkos::Timer timer;
    kernels::add_outer_product(Execution(), buffers, output_gradient, input, weight_gradient);
    Execution().fence();
    state.SetIterationTime(timer.seconds());
    all += timer.seconds();
  }
  const double flops = 2.0 * static_cast<double>(leaf * in * out);
  limit.report(all, flops, flops);
}

/// The losses of the tokens of one leaf by a head of so many ids, or their gradients with respect to rows and head.
void token_loss(benchmark::State& state, bool gradients, std::int64_t width, std::int64_t vocabulary) {
  constexpr std::int64_t leaf = 1024;
  const auto y = random_rows("bench::y", leaf, width), head = random_rows("bench::head", vocabulary, width),
             of_y = random_rows("bench::dy", leaf, width), of_head = random_rows("bench::dhead", vocabulary, width);
  const auto as_matrix = [](const Array<float***>& array) {
    return Array<float**>(array.data(), array.extent(1), array.extent(2));
  };
  const auto blocks = kernels::vocabulary_blocks<float>(as_matrix(head)),
             transposed = kernels::vocabulary_blocks<float>(as_matrix(head), kernels::Transpose::yes);
  const kernels::PanelBuffers<float> panels(kernels::token_loss_width(vocabulary, width));
  const kernels::OuterProductBuffers<float> outer(
      kernels::OuterProductBuffers<float>::elements(blocks.front().out(), width));
  const kernels::LogitGradientBuffer<float> logits(leaf, vocabulary);
  const Array<std::int32_t**> targets("bench::targets", 1, leaf);  // zeros: the first id
  const Array<double**> loss("bench::loss", 1, leaf), log_sum("bench::log_sum", 1, leaf);
  const kernels::LossTokens tokens{Array<const std::int32_t*>(targets.data(), leaf),
                                   Array<const double*>(log_sum.data(), leaf)};
  const auto run_pass = [&](bool of_gradients) {
    if (of_gradients)
      kernels::add_token_loss_gradient<float>(Execution(), panels, outer, logits, blocks, transposed, as_matrix(y),
                                              tokens, 1.0 / leaf, as_matrix(of_y), as_matrix(of_head));
    else
      kernels::token_losses<float>(Execution(), blocks, panels, y, targets, loss, log_sum);
    Execution().fence();
  };
  run_pass(false);
  AgainstSgemm limit(state);
  double all = 0;
  for ([[maybe_unused]] auto run : state) {
    const Kokkos::Timer timer;
    run_pass(gradients);
    state.SetIterationTime(timer.seconds());
    all += timer.seconds();
  }
  const double product = 2.0 * static_cast<double>(leaf * width * vocabulary);
  limit.report(all, gradients ? 2 * product : product, gradients ? 3 * product : product);  // logits are formed anew
}

/// A whole forward of bsbr, four layers.
void forward(benchmark::State& state, std::int64_t hidden_dim, std::int64_t length) {
  ModelConfig config;
  config.architecture = Architecture::bsbr;
  config.hidden_dim = hidden_dim;
  config.num_heads = hidden_dim / 64;
  config.num_layers = 4;
  config.ff_dim = 4 * hidden_dim;
  config.chunk_size = 128;
  const auto weights = random_weights<float>(config, 1);
  static std::set<std::int64_t> validated;  // once for each width: the reference takes longer than what is timed
  if (validated.insert(hidden_dim).second) Forward(weights, MPI_COMM_WORLD, 2 * config.chunk_size + 3).validate();
  Forward model(weights, MPI_COMM_WORLD, length);
  model.seconds();
  AgainstSgemm limit(state);
  double all = 0;
  for ([[maybe_unused]] auto run : state) {
    const double seconds = model.seconds();
    state.SetIterationTime(seconds);
    all += seconds;
  }
  const double flops = forward_flops(config, 1, length);
  limit.report(all, flops, flops);
}

void add_benchmarks(bool large) {
  const auto time = [](benchmark::internal::Benchmark* benchmark) {
    return benchmark->UseManualTime()->Unit(benchmark::kMillisecond);
  };
  std::vector<std::pair<int, int>> products{{512, 1536}, {512, 512},   {512, 2048},
                                            {2048, 512}, {1024, 4096}, {256, 1024}};
  if (large) products.insert(products.end(), {{1024, 3072}, {1024, 1024}, {4096, 1024}});
  for (const auto& [in, out] : products) {
    const std::string shape = std::to_string(in) + "x" + std::to_string(out), name = "product/" + shape,
                      of_blas = "blas/" + shape;
    time(benchmark::RegisterBenchmark(name.c_str(),
                                      [in = in, out = out](benchmark::State& state) { product(state, in, out); }));
    time(
        benchmark::RegisterBenchmark(("outer_product/" + shape).c_str(),
                                     [in = in, out = out](benchmark::State& state) { outer_product(state, in, out); }));
    if (!large) continue;
    time(benchmark::RegisterBenchmark(of_blas.c_str(), [in = in, out = out](benchmark::State& state) {
      blas_product(state, in, out);
    }))->Iterations(3);
  }
  struct Case {
    const char* phase;
    std::int64_t chunk_size, length;
  };
  for (const Case& c : {Case{"within_chunk", 128, 1024},
                        {"within_chunk", 128, 16384},
                        {"within_chunk", 512, 16384},
                        {"states", 128, 16384},
                        {"retrieval", 128, 16384},
                        {"mixing", 16, 16 * 2048},
                        {"mixing", 16, 16 * 8192}}) {
    const std::string name =
        std::string(c.phase) + "/d64/B" + std::to_string(c.chunk_size) + "/L" + std::to_string(c.length);
    time(benchmark::RegisterBenchmark(
        name.c_str(), [c](benchmark::State& state) { attention_phase(state, c.phase, 64, c.chunk_size, c.length); }));
  }
  for (const auto& [name, architecture, feature_map] :
       {std::tuple{"linear", Architecture::linear, FeatureMap::none},
        {"linear_elu", Architecture::linear, FeatureMap::elu},
        {"delta_net", Architecture::delta_net, FeatureMap::none},
        {"gau", Architecture::gau, FeatureMap::none},
        {"bsbr", Architecture::bsbr, FeatureMap::none},
        {"sliding_window", Architecture::sliding_window, FeatureMap::none},
        {"standard", Architecture::standard, FeatureMap::none}}) {
    ModelConfig config = harness::config_for(architecture, model_of(128, 64));
    config.feature_map = feature_map;
    time(benchmark::RegisterBenchmark((std::string("gradient/") + name).c_str(),
                                      [config](benchmark::State& state) { attention_gradient(state, config); }));
  }
  for (const auto& [chunk_size, length] : {std::pair<std::int64_t, std::int64_t>{128, 16384}, {4096, 4096}}) {
    for (const char* pass : {"forward", "queries", "queries_and_deltas", "keys"}) {
      const std::string name =
          std::string("softmax/") + pass + "/d64/B" + std::to_string(chunk_size) + "/L" + std::to_string(length);
      time(benchmark::RegisterBenchmark(name.c_str(), [=, chunk_size = chunk_size, length = length](auto& state) {
        softmax_pass(state, pass, 64, chunk_size, length);
      }));
    }
  }
  for (const auto& [width, vocabulary] : {std::pair<std::int64_t, std::int64_t>{512, 256}, {512, 16384}}) {
    for (const bool gradients : {false, true}) {
      const std::string name = std::string("token_loss/") + (gradients ? "gradients" : "forward") + "/D" +
                               std::to_string(width) + "/V" + std::to_string(vocabulary);
      time(benchmark::RegisterBenchmark(name.c_str(), [=, width = width, vocabulary = vocabulary](auto& state) {
        token_loss(state, gradients, width, vocabulary);
      }));
    }
  }
  std::vector<std::pair<int, int>> forwards{{256, 16384}, {512, 4096}, {512, 16384}};
  if (large) forwards.insert(forwards.end(), {{512, 65536}, {1024, 16384}, {1024, 65536}});
  for (const auto& [width, length] : forwards) {
    const std::string name = "forward/D" + std::to_string(width) + "/L" + std::to_string(length);
    time(benchmark::RegisterBenchmark(
        name.c_str(), [width = width, length = length](benchmark::State& state) { forward(state, width, length); }));
  }
}

}  // namespace
}  // namespace bsbr::perf

int main(int argc, char** argv) {
  bsbr::perf::use_fast_blas_kernels(argv);
  MPI_Init(&argc, &argv);
  {
    const Kokkos::ScopeGuard kokkos(argc, argv);
    const bool large = argc > 1 && std::string_view(argv[1]) == "--large";
    if (large) std::rotate(argv + 1, argv + 2, argv + argc);  // to the end, and away
    if (large) --argc;
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    bsbr::perf::add_benchmarks(large);
    benchmark::RunSpecifiedBenchmarks();
  }
  MPI_Finalize();
  return 0;
}
