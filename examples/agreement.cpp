// A program of your own for several ranks, made like bsbr_forward: rank 0 reads, all ranks compute, rank 0 reports; and
// what one rank alone finds wrong is an error on all ranks, so that none waits for a rank that has given up.
#include <bsbr/bsbr.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

namespace parallel = bsbr::parallel;

/// The bytes of a text, one token each; only rank 0 has read it. Stands for a file.
std::string read_text(MPI_Comm comm) {
  std::string text;
  parallel::agree(comm, [&] {
    if (parallel::rank_in(comm) > 0) return;
    for (int line = 0; line < 100; ++line) text += "line " + std::to_string(line) + '\n';
  });
  parallel::broadcast(text, comm);
  return text;
}

/// The ids of this rank's tokens. \throws bsbr::ShapeError on all ranks if a token of any is none of the vocabulary
bsbr::Array<const std::int32_t**> ids_of(const std::string& text, const bsbr::Sequence& sequence,
                                         std::int64_t vocab_size) {
  const bsbr::HostArray<std::int32_t**> ids("ids", 1, sequence.local_tokens());
  parallel::agree(sequence.comm(), [&] {
    for (std::int64_t t = 0; t < sequence.local_tokens(); ++t) {
      const auto token = sequence.first_token() + t;
      ids(0, t) = static_cast<unsigned char>(text[static_cast<std::size_t>(token)]);
      if (ids(0, t) >= vocab_size)
        throw bsbr::ShapeError("token " + std::to_string(token) + " is none of the vocabulary", "a larger one");
    }
  });
  return Kokkos::create_mirror_view_and_copy(bsbr::Memory(), ids);
}

/// Runs a model over the text, and prints what each rank has done.
void run(const bsbr::ModelConfig& config, const std::string& text, MPI_Comm comm) {
  const bsbr::Sequence sequence(comm, 1, static_cast<std::int64_t>(text.size()), config.chunk_size);
  const auto ids = ids_of(text, sequence, config.vocab_size);
  bsbr::Model<float> model(bsbr::random_weights<float>(config, 1));
  const Kokkos::Timer timer;
  model.forward(bsbr::Execution(), sequence, ids);
  Kokkos::fence();
  const double slowest = parallel::all_reduce(timer.seconds(), MPI_MAX, comm);
  const auto tokens = parallel::all_gather(sequence.local_tokens(), comm);
  if (sequence.rank() > 0) return;
  for (std::size_t rank = 0; rank < tokens.size(); ++rank)
    std::printf("rank %zu: %lld tokens\n", rank, static_cast<long long>(tokens[rank]));
  std::printf("%zu tokens in %.3f s\n", text.size(), slowest);
}

/// Whether the byte 200 at the end of the text, which one rank alone sees, is the same error on all ranks.
bool agrees_on_an_error(const bsbr::ModelConfig& config, const std::string& text, MPI_Comm comm) {
  std::string what;
  try {
    run(config, text + '\xc8', comm);
  } catch (const bsbr::ShapeError& error) {
    what = error.what();
  }
  const std::string expected = "token " + std::to_string(text.size()) + " is none of the vocabulary";
  const bool everywhere = parallel::all_reduce(what == expected ? 1 : 0, MPI_MIN, comm) == 1;
  if (everywhere && parallel::rank_in(comm) == 0)
    std::printf("all %d ranks: %s\n", parallel::ranks_of(comm), what.c_str());
  return everywhere;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  bool right = false;
  {
    setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);  // about OMP_PROC_BIND, from every rank
    const Kokkos::ScopeGuard kokkos(argc, argv);
    bsbr::ModelConfig config;
    config.vocab_size = 128;
    config.hidden_dim = 64;
    config.num_heads = 4;
    config.num_layers = 2;
    config.ff_dim = 128;
    const std::string text = read_text(MPI_COMM_WORLD);
    run(config, text, MPI_COMM_WORLD);
    right = agrees_on_an_error(config, text, MPI_COMM_WORLD);
  }
  MPI_Finalize();
  return right ? 0 : 1;
}
