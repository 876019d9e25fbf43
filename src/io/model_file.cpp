// Model files: a configuration in the root's attributes, and a dataset for each weight.
#include <algorithm>
#include <cmath>
#include <memory>

#include "bsbr/io.hpp"
#include "config/weight_table.hpp"
#include "io/attributes.hpp"
#include "io/config_attributes.hpp"
#include "io/dataset.hpp"
#include "io/datatype.hpp"
#include "io/output_file.hpp"
#include "io/text.hpp"
#include "io/weight_group.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr {
namespace {

using namespace io;

constexpr const char* format = "bsbr-model";
constexpr std::int64_t format_version = 1;
constexpr const char* group = "/weights";

std::string dataset_path(const WeightInfo& weight) { return std::string(group) + '/' + weight.name; }

void check_format(hid_t file) {
  const auto found = read_attribute(file, "format");
  if (!found)
    throw ContentError("has no attribute format = \"" + std::string(format) + "\", so it is not a model file");
  const auto* name = std::get_if<std::string>(&*found);
  if (name == nullptr || *name != format) {
    throw ContentError(
        "attribute format is " + show(*found) + ", a model file has " + quoted(format),
        name != nullptr && *name == "bsbr-result" ? "this is a result that bsbr_forward has written" : "");
  }
}

void check_version(hid_t file) {
  const auto found = read_attribute(file, "format_version");
  if (!found) throw ContentError("attribute format_version is missing");
  const auto version = whole_number(*found);
  if (version == format_version) return;
  throw ContentError(
      "attribute format_version is " + show(*found) + ", this library reads version " + std::to_string(format_version),
      version > format_version ? "a newer version of bsbr has written the file" : "");
}

struct Search {
  const WeightLayout& expected;
  std::string surplus;
};

/// Ends the iteration at the first name that is not expected.
herr_t compare_name(hid_t, const char* name, const H5L_info_t*, void* data) noexcept {
  auto& search = *static_cast<Search*>(data);
  if (search.expected.find(name)) return 0;
  search.surplus = name;
  return 1;
}

/// A model file that is open on this process. Its configuration is borne out by its weights: /weights holds what it
/// calls for, and nothing else.
class ModelFile {
 public:
  /// Throws ContentError.
  explicit ModelFile(const std::string& path) : m_path(path), m_file(path), m_config(read_config()) { check_weights(); }

  const ModelConfig& config() const { return m_config; }

  /// One weight, of the size that the table says. Throws ContentError for numbers that are not finite.
  template <class Real>
  void read(const WeightInfo& weight, Real* target) const;

 private:
  ModelConfig read_config() const;
  void check_weights() const;
  std::string surplus(const WeightLayout& expected) const;
  Dataset find(const WeightInfo& weight, const WeightLayout& expected) const;
  template <class Real>
  [[noreturn]] void refuse_number(const Dataset& dataset, std::int64_t index, Real value) const;

  std::string m_path;
  InputFile m_file;
  ModelConfig m_config;
};

ModelConfig ModelFile::read_config() const {
  check_format(m_file.id());
  check_version(m_file.id());
  return read_config_attributes(m_file.id());
}

/// The name of something in the group that the table does not have; empty if there is none.
std::string ModelFile::surplus(const WeightLayout& expected) const {
  Search search{expected, {}};
  const auto weights = find_object(m_file, group);
  check_hdf5(H5Literate(*weights, H5_INDEX_NAME, H5_ITER_INC, nullptr, compare_name, &search),
             std::string(group) + " cannot be read");
  return printable(search.surplus, 200);
}

Dataset ModelFile::find(const WeightInfo& weight, const WeightLayout& expected) const {
  auto dataset = Dataset::find(m_file, dataset_path(weight));
  if (dataset) return std::move(*dataset);
  const std::string other = surplus(expected);
  throw ContentError(
      dataset_path(weight) + " is missing, the configuration needs it as " + bracketed(weight.shape),
      other.empty() ? ""
                    : "there is " + std::string(group) + '/' + other + ", which the configuration has no place for");
}

void check_weight(Dataset dataset, const WeightInfo& weight) {
  if (!is_real(dataset.type())) {
    throw ContentError(dataset.path() + " holds " + describe(dataset.type()) + ", weights are float32 or float64");
  }
  if (dataset.shape() != weight.shape) {
    throw ContentError(dataset.path() + " is " + bracketed(dataset.shape()) + ", the configuration needs " +
                       bracketed(weight.shape));
  }
  dataset.check_storage();
}

/// Ends at the first weight that is missing, so a file cannot make this longer than it is by the layers that it claims.
void ModelFile::check_weights() const {
  const auto weights = find_object(m_file, group);
  if (!weights) throw ContentError(std::string(group) + " is missing");
  if (H5Iget_type(*weights) != H5I_GROUP) throw ContentError(std::string(group) + " is not a group");
  const WeightLayout expected(m_config);
  expected.for_each([&](const WeightInfo& weight, std::int64_t) { check_weight(find(weight, expected), weight); });
  const std::string other = surplus(expected);
  if (!other.empty()) throw ContentError(std::string(group) + '/' + other + " is not a weight of this configuration");
}

template <class Real>
void ModelFile::read(const WeightInfo& weight, Real* target) const {
  auto dataset = Dataset::find(m_file, dataset_path(weight));
  if (!dataset) throw ContentError(dataset_path(weight) + " is missing");
  dataset->check_storage();
  dataset->read(native_real<Real>(), std::vector<std::int64_t>(weight.shape.size()), weight.shape, target);
  const std::int64_t size = weight.size();
  const auto* bad = std::find_if(target, target + size, [](Real value) { return !std::isfinite(value); });
  if (bad != target + size) refuse_number(*dataset, bad - target, *bad);
}

/// Says whether the file holds the bad number or float cannot hold the file's.
template <class Real>
void ModelFile::refuse_number(const Dataset& dataset, std::int64_t index, Real value) const {
  std::vector<std::int64_t> place(dataset.shape().size());
  for (std::size_t i = place.size(); i-- > 0; index /= dataset.shape()[i]) place[i] = index % dataset.shape()[i];
  double stored = static_cast<double>(value);
  dataset.read(H5T_NATIVE_DOUBLE, place, std::vector<std::int64_t>(place.size(), 1), &stored);
  const std::string what = dataset.path() + ' ' + bracketed(place) + " is " + show(stored);
  if (std::isfinite(stored)) throw ContentError(what + ", too large for float", "read the model in double precision");
  throw ContentError(what + ", weights are finite numbers");
}

template <class Real>
using Part = Kokkos::View<Real*, Kokkos::LayoutRight, Device, Kokkos::MemoryUnmanaged>;

/// Reads one weight on the rank that has the file, into its place in all ranks' weights.
template <class Real>
void read_weight(const std::string& path, const ModelFile* file, const WeightInfo& info, Real* target, MPI_Comm comm) {
  const Part<Real> part(target, static_cast<std::size_t>(info.size()));
  typename Part<Real>::HostMirror host;
  parallel::agree(comm, [&] {
    host = Kokkos::create_mirror_view(part);
    if (file != nullptr) reading(path, [&] { file->read(info, host.data()); });
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
    write_attribute(file, "format", std::string(format));
    write_attribute(file, "format_version", format_version);
    write_config_attributes(file, weights.config());
    write_weight_group(file, group, output, weights.config(), weights.data());
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
