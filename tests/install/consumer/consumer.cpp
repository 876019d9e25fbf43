// Uses what lies in all parts of the library: configuration, files (HDF5), messages (MPI), kernels (Kokkos). Prints the
// version.
#include <bsbr/bsbr.hpp>
#include <cmath>
#include <cstdio>

namespace {

/// A model goes to a file and back, and is run. True if the states are what the last norm makes of them.
bool works(const char* path) {
  bsbr::ModelConfig config;
  config.hidden_dim = 32;
  config.num_heads = 2;
  config.num_layers = 1;
  config.ff_dim = 64;
  config.chunk_size = 16;
  bsbr::write_model(path, bsbr::random_weights<double>(config, 1));
  bsbr::Model<double> model = bsbr::read_model<double>(path, MPI_COMM_WORLD);
  const bsbr::Sequence sequence(MPI_COMM_WORLD, 1, 50, config.chunk_size);
  const bsbr::Array<std::int32_t**> ids("ids", 1, sequence.local_tokens());
  const auto states =
      Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), model.forward(bsbr::Execution(), sequence, ids));
  double sum = 0;
  for (std::size_t i = 0; i < states.size(); ++i) sum += states.data()[i] * states.data()[i];
  return std::abs(sum / static_cast<double>(states.size()) - 1) < 1e-3 && bsbr::parameter_count(config) > 0 &&
         bsbr::forward_flops_by_phase(config, 1, 50).size() > 1;
}

/// Exceptions of the library are caught by their type, whatever kind of library it is.
bool refuses() {
  try {
    bsbr::ModelConfig config;
    config.num_heads = 7;
    config.validate();
  } catch (const bsbr::ConfigError& error) {
    return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  Kokkos::initialize(argc, argv);
  const bool good = argc == 2 && works(argv[1]) && refuses();
  Kokkos::finalize();
  MPI_Finalize();
  std::printf("%s\n", bsbr::version().c_str());
  return good ? 0 : 1;
}
