// Model files: a configuration in the root's attributes, and a dataset for each weight.
#include <memory>

#include "bsbr/io.hpp"
#include "config/weight_table.hpp"
#include "io/input_file.hpp"
#include "io/model_layout.hpp"
#include "io/output_file.hpp"
#include "io/weight_group.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr {
namespace {

using namespace io;

/// A model file that is open on this process. Its configuration is borne out by its weights: /weights holds what it
/// calls for, and nothing else.
class ModelFile {
 public:
  /// Throws ContentError.
  explicit ModelFile(const std::string& path)
      : m_file(path), m_config(read_model_attributes(m_file.id())), m_weights(m_file, model_weights, m_config) {
    m_weights.check();
  }

  const ModelConfig& config() const { return m_config; }
  const WeightGroup& weights() const { return m_weights; }

 private:
  InputFile m_file;
  ModelConfig m_config;
  WeightGroup m_weights;
};

template <class Real>
using Part = Kokkos::View<Real*, Kokkos::LayoutRight, Device, Kokkos::MemoryUnmanaged>;

/// Reads one weight on the rank that has the file, into its place in all ranks' weights.
template <class Real>
void read_weight(const std::string& path, const ModelFile* file, const WeightInfo& info, Real* target, MPI_Comm comm) {
  const Part<Real> part(target, static_cast<std::size_t>(info.size()));
  typename Part<Real>::HostMirror host;
  parallel::agree(comm, [&] {
    host = Kokkos::create_mirror_view(part);
    if (file != nullptr) reading(path, [&] { file->weights().read(info, 0, info.size(), host.data()); });
  });
  parallel::broadcast(host.data(), info.size() * static_cast<std::int64_t>(sizeof(Real)), comm);
  Kokkos::deep_copy(part, host);
}

}  // namespace

ModelConfig read_config(const std::string& path, MPI_Comm comm) {
  const int rank = parallel::rank_in(comm);
  ModelConfig config;
  parallel::agree(comm, [&] {
    if (rank == 0) reading(path, [&] { config = ModelFile(path).config(); });
  });
  parallel::broadcast(&config, sizeof config, comm);
  return config;
}

template <class Real>
Weights<Real> read_weights(const std::string& path, MPI_Comm comm) {
  const int rank = parallel::rank_in(comm);
  std::unique_ptr<ModelFile> file;
  ModelConfig config;
  parallel::agree(comm, [&] {
    if (rank != 0) return;
    reading(path, [&] {
      file = std::make_unique<ModelFile>(path);
      config = file->config();
    });
  });
  parallel::broadcast(&config, sizeof config, comm);
  std::unique_ptr<Weights<Real>> weights;
  parallel::agree(comm, [&] { weights = std::make_unique<Weights<Real>>(config); });
  WeightLayout(config).for_each([&](const WeightInfo& info, std::int64_t offset) {
    read_weight(path, file.get(), info, weights->data().data() + offset, comm);
  });
  return std::move(*weights);
}

template <class Real>
Model<Real> read_model(const std::string& path, MPI_Comm comm) {
  return Model<Real>(read_weights<Real>(path, comm));
}

template <class Real>
void write_model(const std::string& path, const Weights<Real>& weights) {
  const std::int64_t datasets = WeightLayout(weights.config()).count();
  const std::int64_t bytes = parameter_count(weights.config()) * static_cast<std::int64_t>(sizeof(Real));
  writing(path, [&] {
    OutputFile output(path, datasets, bytes);
    Handle file = output.open();
    write_model_attributes(file, weights.config());
    write_weight_group(file, model_weights.path, output, weights.config(), weights.data());
    output.close(file);
    output.commit();
  });
}

template Weights<float> read_weights<float>(const std::string&, MPI_Comm);
template Weights<double> read_weights<double>(const std::string&, MPI_Comm);
template Model<float> read_model<float>(const std::string&, MPI_Comm);
template Model<double> read_model<double>(const std::string&, MPI_Comm);
template void write_model<float>(const std::string&, const Weights<float>&);
template void write_model<double>(const std::string&, const Weights<double>&);

}  // namespace bsbr
