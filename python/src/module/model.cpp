// Sequence and Model in Python. Arrays arrive as the library takes them: bsbr_hpc/_arrays.py prepares them.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "bsbr/bsbr.hpp"
#include "module.hpp"

namespace bsbr::python {
namespace {

template <class Value>
using Rows = nb::ndarray<const Value, nb::ndim<2>, nb::c_contig, nb::device::cpu>;  // [batch, local tokens]
using Elements = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using ByName = nb::typed<nb::dict, nb::str, nb::any>;

/// The same memory as a View, or a copy of it in the device's memory.
template <class Value>
Array<const Value**> view_of(const Rows<Value>& rows) {
  return Kokkos::create_mirror_view_and_copy(Memory(),
                                             HostArray<const Value**>(rows.data(), rows.shape(0), rows.shape(1)));
}

/// The same memory as a NumPy array, which keeps the View, or a copy of it in the host's memory.
template <class Real>
nb::object numpy_of(const Array<Real***>& states) {
  auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), states);
  using View = decltype(host);
  const nb::capsule owner(new View(host), [](void* view) noexcept { delete static_cast<View*>(view); });
  return nb::cast(
      nb::ndarray<nb::numpy, Real, nb::ndim<3>>(host.data(), {host.extent(0), host.extent(1), host.extent(2)}, owner));
}

std::string bracketed(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return '[' + text + ']';
}

/// Where number `index` of an array is: "[3, 5]".
std::string place_of(const WeightInfo& weight, std::int64_t index) {
  std::vector<std::int64_t> place(weight.shape.size());
  for (std::size_t i = place.size(); i-- > 0; index /= weight.shape[i]) place[i] = index % weight.shape[i];
  return bracketed(place);
}

template <class Real, class Source>
void convert(const WeightInfo& weight, const Source* source, Real* target) {
  for (std::int64_t i = 0; i < weight.size(); ++i) {
    target[i] = static_cast<Real>(source[i]);
    if (std::isfinite(target[i])) continue;
    const std::string what =
        weight.name + ' ' + place_of(weight, i) + " is " + nb::cast<std::string>(nb::repr(nb::float_(source[i])));
    if (std::isfinite(source[i])) throw Error(what + ", too large for float", "make the model in double precision");
    throw Error(what + ", weights are finite numbers");
  }
}

template <class Real>
void read_array(const WeightInfo& weight, const Elements& array, Real* target) {
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; i < array.ndim(); ++i) shape.push_back(static_cast<std::int64_t>(array.shape(i)));
  if (shape != weight.shape)
    throw ShapeError(weight.name + " is " + bracketed(shape) + ", the configuration needs " + bracketed(weight.shape));
  if (array.dtype() == nb::dtype<float>())
    convert(weight, static_cast<const float*>(array.data()), target);
  else if (array.dtype() == nb::dtype<double>())
    convert(weight, static_cast<const double*>(array.data()), target);
  else
    throw nb::type_error((weight.name + " has numbers of another type; weights are float32 or float64").c_str());
}

template <class Real>
Weights<Real> weights_of(const ModelConfig& config, const ByName& arrays) {
  const auto table = weight_table(config);
  Weights<Real> weights(config);
  const auto host = Kokkos::create_mirror_view(weights.data());
  for (const WeightInfo& weight : table) {
    if (!arrays.contains(weight.name.c_str()))
      throw Error(weight.name + " is missing, the configuration needs it as " + bracketed(weight.shape));
    read_array(weight, nb::cast<Elements>(arrays[weight.name.c_str()]), host.data() + weights.offset(weight.name));
  }
  std::unordered_set<std::string_view> names;
  for (const WeightInfo& weight : table) names.insert(weight.name);
  for (const auto& [key, array] : arrays) {
    const auto name = nb::cast<std::string>(nb::str(key));
    if (!names.contains(name)) throw Error(name + " is not a weight of this configuration");
  }
  Kokkos::deep_copy(weights.data(), host);
  return weights;
}

/// A model of either precision, and the sequence that it was used for last: its workspace is kept for it.
class AnyModel {
 public:
  AnyModel(const nb::object& comm, MPI_Comm handle) : m_comm_object(comm), m_comm(handle) {}
  virtual ~AnyModel() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const char* precision() const = 0;
  /// Read-only NumPy arrays of all weights; on a host they share the model's memory.
  virtual nb::dict weights() const = 0;
  virtual void save(const std::string& path) const = 0;
  virtual nb::object forward(const Sequence& sequence, const Rows<std::int32_t>& ids,
                             const std::optional<Rows<std::uint8_t>>& mask) = 0;

  Sequence sequence(std::int64_t length, std::int64_t batch) {
    start();
    const nb::gil_scoped_release others_may_run;
    const bool kept = m_sequence && m_sequence->length() == length && m_sequence->batch() == batch;
    const bool kept_by_all = parallel::all_reduce(kept ? 1 : 0, MPI_MIN, m_comm) != 0;
    if (!kept_by_all) m_sequence.emplace(m_comm, batch, length, config().chunk_size);
    return *m_sequence;
  }

 private:
  nb::object m_comm_object;  // so that its handle stays valid
  MPI_Comm m_comm;
  std::optional<Sequence> m_sequence;
};

template <class Real>
class TypedModel : public AnyModel {
 public:
  TypedModel(const nb::object& comm, MPI_Comm handle, Model<Real> model)
      : AnyModel(comm, handle), m_model(std::move(model)) {}

  const ModelConfig& config() const override { return m_model.config(); }
  const char* precision() const override { return std::is_same_v<Real, float> ? "float32" : "float64"; }

  nb::object forward(const Sequence& sequence, const Rows<std::int32_t>& ids,
                     const std::optional<Rows<std::uint8_t>>& mask) override {
    start();
    Array<Real***> states;
    {
      const nb::gil_scoped_release others_may_run;
      std::optional<Array<const std::uint8_t**>> mask_view;
      if (mask) mask_view = view_of(*mask);
      states = m_model.forward(Execution(), sequence, view_of(ids), mask_view);
    }
    return numpy_of(states);
  }

  nb::dict weights() const override {
    // On a host nothing runs in Kokkos: any thread may read them, as multiprocessing's does that pickles.
    if constexpr (!Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible) start();
    const auto data = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), m_model.weights().data());
    using View = std::remove_const_t<decltype(data)>;
    const nb::capsule owner(new View(data), [](void* view) noexcept { delete static_cast<View*>(view); });
    nb::dict arrays;
    for (const WeightInfo& weight : weight_table(config())) {
      const std::vector<std::size_t> shape(weight.shape.begin(), weight.shape.end());
      const Real* first = data.data() + m_model.weights().offset(weight.name);
      arrays[weight.name.c_str()] =
          nb::cast(nb::ndarray<nb::numpy, const Real>(first, shape.size(), shape.data(), owner));
    }
    return arrays;
  }

  void save(const std::string& path) const override {
    start();
    const nb::gil_scoped_release others_may_run;
    write_model(path, m_model.weights());
  }

 private:
  Model<Real> m_model;
};

/// A path is bytes, as for the system. The configuration is read first, so that changes of it are refused before the
/// weights are read.
template <class Real>
std::unique_ptr<AnyModel> load(const nb::bytes& name, const nb::object& comm, const ByName& changes) {
  const MPI_Comm handle = communicator(comm);
  const std::string path(name.c_str(), name.size());
  std::optional<ModelConfig> changed;
  if (changes.size() > 0) {
    const auto stored = [&] {
      const nb::gil_scoped_release others_may_run;
      return read_config(path, handle);
    };
    const ModelConfig before = stored();
    changed = with_fields(before, changes);
    require_same_weights(before, *changed);
  }
  const nb::gil_scoped_release others_may_run;
  auto weights = read_weights<Real>(path, handle);
  if (changed) weights.set_config(*changed);
  Model<Real> model(std::move(weights));
  const nb::gil_scoped_acquire for_the_communicator;
  return std::make_unique<TypedModel<Real>>(comm, handle, std::move(model));
}

template <class Real>
std::unique_ptr<AnyModel> from_arrays(const ModelConfig& config, const ByName& arrays, const nb::object& comm) {
  const MPI_Comm handle = communicator(comm);
  return std::make_unique<TypedModel<Real>>(comm, handle, Model<Real>(weights_of<Real>(config, arrays)));
}

std::string repr(const Sequence& sequence) {
  return "Sequence(length=" + std::to_string(sequence.length()) + ", batch=" + std::to_string(sequence.batch()) +
         ", chunk_size=" + std::to_string(sequence.chunk_size()) + ", rank=" + std::to_string(sequence.rank()) +
         ", ranks=" + std::to_string(sequence.ranks()) + ", first_token=" + std::to_string(sequence.first_token()) +
         ", local_tokens=" + std::to_string(sequence.local_tokens()) + ")";
}

void add_sequence(nb::module_& module) {
  nb::class_<Sequence>(
      module, "Sequence",
      "Shape of a batch of sequences of equal length, and the part of it that this rank holds. Made by Model.sequence.")
      .def("__repr__", &repr)
      .def_prop_ro("batch", &Sequence::batch, "Number of sequences.")
      .def_prop_ro("length", &Sequence::length, "Tokens of one sequence, over all ranks.")
      .def_prop_ro("chunk_size", &Sequence::chunk_size, "Tokens in a chunk. A rank holds whole chunks.")
      .def_prop_ro("first_token", &Sequence::first_token, "First token of this rank's part.")
      .def_prop_ro("local_tokens", &Sequence::local_tokens,
                   "Tokens of one sequence that this rank holds; 0 if there are more ranks than chunks.")
      .def_prop_ro("rank", &Sequence::rank, "This process's rank in the model's communicator.")
      .def_prop_ro("ranks", &Sequence::ranks, "Number of ranks of the model's communicator.")
      .def("first_token_of", &Sequence::first_token_of, nb::arg("rank"),
           "First token of a rank's part, for rank = 0 … ranks; that of `ranks` is `length`.");
}

}  // namespace

void add_model(nb::module_& module) {
  add_sequence(module);
  nb::class_<AnyModel>(module, "Model")
      .def_prop_ro("config", &AnyModel::config, nb::rv_policy::copy)
      .def_prop_ro("precision", &AnyModel::precision)
      .def_prop_ro("parameters", [](const AnyModel& model) { return parameter_count(model.config()); })
      .def("weights", &AnyModel::weights, nb::sig("def weights(self) -> dict[str, object]"))
      .def("save",
           [](const AnyModel& model, const nb::bytes& path) {
             model.save({path.c_str(), path.size()});
           })
      .def("sequence", &AnyModel::sequence, nb::arg("length"), nb::arg("batch"))
      .def("forward", &AnyModel::forward, nb::arg("sequence"), nb::arg("ids").noconvert(),
           nb::arg("mask").noconvert().none());
  const nb::arg path("path"), config("config"), arrays("arrays"), changes("changes");
  module.def("load_float32", &load<float>, path, nb::arg("comm").none(), changes);
  module.def("load_float64", &load<double>, path, nb::arg("comm").none(), changes);
  module.def("from_arrays_float32", &from_arrays<float>, config, arrays, nb::arg("comm").none());
  module.def("from_arrays_float64", &from_arrays<double>, config, arrays, nb::arg("comm").none());
}

}  // namespace bsbr::python
