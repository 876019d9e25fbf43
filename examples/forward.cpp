// A forward pass over 5,000 tokens, alone or on any number of ranks.
#include <bsbr/bsbr.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  double sum = 0;
  {
    setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);    // about OMP_PROC_BIND, from every rank
    const Kokkos::ScopeGuard kokkos(argc, argv);  // Views must be gone before Kokkos is
    bsbr::ModelConfig config;  // bsbr, causal, hidden_dim = 512, num_heads = 8, chunk_size = 128, …
    config.num_layers = 2;
    bsbr::Model<float> model(
        bsbr::random_weights<float>(config, 1));  // or bsbr::read_model<float>("model.h5", MPI_COMM_WORLD)

    const bsbr::Sequence sequence(MPI_COMM_WORLD, 1, 5000,
                                  config.chunk_size);  // batch, length: this rank has a part of the tokens
    const bsbr::HostArray<std::int32_t**> tokens("tokens", 1, sequence.local_tokens());
    for (std::int64_t t = 0; t < sequence.local_tokens(); ++t)
      tokens(0, t) = static_cast<std::int32_t>((sequence.first_token() + t) % 251);

    const auto ids = Kokkos::create_mirror_view_and_copy(bsbr::Memory(), tokens);
    const auto states = model.forward(bsbr::Execution(), sequence, ids);  // [batch, local tokens, hidden_dim]

    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), states);
    for (std::size_t i = 0; i < host.size(); ++i)
      sum += double(host.data()[i]) * host.data()[i] / (5000.0 * config.hidden_dim);
    MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    if (sequence.rank() == 0) {
      std::printf("bsbr %s, ranks: %d, tokens: 5000, mean square of the states: %.4f\n", bsbr::version().c_str(),
                  sequence.ranks(), sum);
    }
  }
  MPI_Finalize();
  return std::abs(sum - 1) < 1e-3 ? 0 : 1;  // what the last norm makes of any input
}
