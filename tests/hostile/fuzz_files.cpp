// Fuzz target: whole files. Every input is read as a model file and as a token file, by the functions that the programs
// use. A model that is taken runs over a few tokens. A file may be refused by a FileError; anything else that leaves is
// a finding.
#include <mpi.h>

#include <algorithm>

#include "bsbr/error.hpp"
#include "bsbr/io.hpp"
#include "bsbr/model.hpp"
#include "fuzz_runtime.hpp"

namespace {

using namespace bsbr;

constexpr std::int64_t most_parameters = 1 << 16, most_tokens = 1 << 16;  // more would only take time

void run(const Weights<float>& weights) {
  constexpr std::int64_t length = 5;
  const ModelConfig& config = weights.config();
  const Sequence sequence(MPI_COMM_SELF, 1, length, config.chunk_size);
  const Array<std::int32_t**> ids("ids", 1, length);
  for (std::int64_t i = 0; i < length; ++i) ids(0, i) = static_cast<std::int32_t>(i % config.vocab_size);
  Model<float> model(weights);
  model.forward(Execution(), sequence, ids);
}

template <class Read>
void may_be_refused(Read&& read) {
  try {
    read();
  } catch (const FileError&) {
  }
}

void read_as_model(const std::string& path) {
  may_be_refused([&] { read_weights<double>(path, MPI_COMM_SELF); });
  may_be_refused([&] {
    const auto weights = read_weights<float>(path, MPI_COMM_SELF);
    if (parameter_count(weights.config()) <= most_parameters) run(weights);
  });
}

void read_as_tokens(const std::string& path) {
  may_be_refused([&] {
    const TokenSource source{path, {}};
    const TokenShape shape = read_token_shape(source, MPI_COMM_SELF);
    const Sequence sequence(MPI_COMM_SELF, shape.batch, std::min(shape.length, most_tokens / shape.batch), 16);
    read_tokens(source, sequence, 200);
  });
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  hostile::start_runtime();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const hostile::TemporaryFile file(bytes, size);
  read_as_model(file.path());
  read_as_tokens(file.path());
  return 0;
}
