// A communicator of your own: the ranks of a job run two models at the same time, each on half of them. The library
// duplicates the communicator that it is given, so its messages never meet yours, nor those of the other model.
#include <bsbr/bsbr.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace {

constexpr std::int64_t length = 3000;

/// The hidden states of this rank's tokens, on the host: [local tokens, hidden_dim].
bsbr::HostArray<float**> run(bsbr::Model<float>& model, const bsbr::Sequence& sequence) {
  const bsbr::HostArray<std::int32_t**> tokens("tokens", 1, sequence.local_tokens());
  for (std::int64_t t = 0; t < sequence.local_tokens(); ++t)
    tokens(0, t) = static_cast<std::int32_t>((sequence.first_token() + t) % 251);
  const auto ids = Kokkos::create_mirror_view_and_copy(bsbr::Memory(), tokens);
  const auto states =
      Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), model.forward(bsbr::Execution(), sequence, ids));
  return Kokkos::subview(states, 0, Kokkos::ALL, Kokkos::ALL);
}

/// Runs a model on the ranks of `group`, and on each rank by itself. The largest difference between the two.
float compare(const bsbr::ModelConfig& config, MPI_Comm group) {
  bsbr::Model<float> model(bsbr::random_weights<float>(config, 1));
  const bsbr::Sequence shared(group, 1, length, config.chunk_size);
  const bsbr::Sequence alone(MPI_COMM_SELF, 1, length, config.chunk_size);
  const auto mine = run(model, shared);
  const auto all = run(model, alone);
  float difference = 0;
  for (std::int64_t t = 0; t < shared.local_tokens(); ++t) {
    for (std::int64_t c = 0; c < config.hidden_dim; ++c) {
      difference = std::fmax(difference, std::abs(mine(t, c) - all(shared.first_token() + t, c)));
    }
  }
  MPI_Allreduce(MPI_IN_PLACE, &difference, 1, MPI_FLOAT, MPI_MAX, group);
  if (shared.rank() == 0) {
    std::printf("%s, ranks: %d, largest difference to one rank alone: %g\n",
                std::string(bsbr::to_string(config.architecture)).c_str(), shared.ranks(),
                static_cast<double>(difference));
  }
  return difference;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const bool first = rank % 2 == 0;
  MPI_Comm group;
  MPI_Comm_split(MPI_COMM_WORLD, first ? 0 : 1, rank, &group);

  float difference = 0;
  {
    setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);  // about OMP_PROC_BIND, from every rank
    const Kokkos::ScopeGuard kokkos(argc, argv);
    bsbr::ModelConfig config;
    config.architecture = first ? bsbr::Architecture::bsbr : bsbr::Architecture::linear;
    config.hidden_dim = 128;
    config.num_heads = 4;
    config.num_layers = 2;
    config.ff_dim = 512;
    difference = compare(config, group);
  }
  MPI_Comm_free(&group);
  MPI_Finalize();
  return difference < 1e-5F ? 0 : 1;  // on a host it is exactly 0
}
