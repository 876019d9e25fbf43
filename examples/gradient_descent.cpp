// Twenty steps of gradient descent on all weights of a small model, alone or on any number of ranks: the losses that
// are printed are the same.
#include <bsbr/bsbr.hpp>
#include <cstdio>
#include <cstdlib>
#include <limits>

namespace {

constexpr int steps = 20;
constexpr float learning_rate = 0.05F;

/// weights ← weights − learning_rate · gradients. Both are one array, with every weight at the same place.
void descend(const bsbr::Weights<float>& weights, const bsbr::WeightArray<float>& gradients) {
  const bsbr::Array<float*> w = weights.data(), g = gradients.data();
  Kokkos::parallel_for(
      "descend", Kokkos::RangePolicy<bsbr::Execution>(0, static_cast<std::int64_t>(w.size())),
      KOKKOS_LAMBDA(const std::int64_t i) { w(i) -= learning_rate * g(i); });
}

/// Whether the loss falls with every step.
bool learns() {
  bsbr::ModelConfig config;
  config.head = bsbr::Head::tied;
  config.hidden_dim = 8;
  config.num_heads = 2;
  config.ff_dim = 64;
  config.num_layers = 2;
  config.chunk_size = 16;
  config.vocab_size = 11;
  const auto weights = bsbr::random_weights<float>(config, 1);

  // Two sequences of 200 tokens, each of which goes through the vocabulary again and again.
  const bsbr::Sequence sequence = bsbr::gradient_sequence(MPI_COMM_WORLD, 2, 200, config.chunk_size);
  const bsbr::HostArray<std::int32_t**> tokens("tokens", sequence.batch(), sequence.local_tokens());
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    for (std::int64_t t = 0; t < sequence.local_tokens(); ++t)
      tokens(row, t) = static_cast<std::int32_t>((row + sequence.first_token() + t) % config.vocab_size);
  }
  const auto ids = Kokkos::create_mirror_view_and_copy(bsbr::Memory(), tokens);
  const auto targets = bsbr::next_tokens(bsbr::Execution(), sequence, ids);

  bool falls = true;
  double previous = std::numeric_limits<double>::infinity();
  for (int step = 0; step < steps; ++step) {
    bsbr::ModelGradient<float> model(weights);  // for each step, since it may keep a copy of the weights
    const auto result = model.compute(bsbr::Execution(), sequence, ids, targets);
    const double loss = result.loss.loss;
    if (sequence.rank() == 0) std::printf("step %2d: loss %.6f\n", step, loss);
    falls = falls && loss < previous;
    previous = loss;
    descend(weights, result.gradients);  // on each rank: all have all weights, and the same gradients
  }
  return falls;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  bool succeeded = false;
  {
    setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);  // about OMP_PROC_BIND, from every rank
    const Kokkos::ScopeGuard kokkos(argc, argv);
    succeeded = learns();
  }
  MPI_Finalize();
  return succeeded ? 0 : 1;
}
