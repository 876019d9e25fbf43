// Sequence and Model in Python.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "bsbr/bsbr.hpp"
#include "make_once.hpp"
#include "module.hpp"
#include "stream.hpp"

namespace bsbr::python {
namespace {

using Elements = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using ByName = nb::typed<nb::dict, nb::str, nb::any>;

/// One NumPy array of `Element`s for each weight, by name, all on the same memory: that of the elements of Weights or a
/// WeightArray, or a copy of them in the host's memory.
template <class Element, class Source>
ByName numpy_by_name(const ModelConfig& config, const Source& source) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), source.data());
  const nb::capsule owner = owner_of(host);
  nb::dict arrays;
  for (const WeightInfo& weight : weight_table(config)) {
    const std::vector<std::size_t> shape(weight.shape.begin(), weight.shape.end());
    Element* first = host.data() + source.offset(weight.name);
    arrays[weight.name.c_str()] = nb::cast(nb::ndarray<nb::numpy, Element>(first, shape.size(), shape.data(), owner));
  }
  return arrays;
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

// ---- Losses ---------------------------------------------------------------------------------------------------------

/// The fields of Loss in bsbr_hpc/_loss.py.
nb::dict fields_of(const MeanLoss& mean, const Array<double**>& token_losses) {
  nb::dict fields;
  fields["loss"] = mean.loss;
  fields["counted"] = mean.counted;
  fields["bits_per_token"] = mean.bits_per_token();
  fields["perplexity"] = mean.perplexity();
  fields["token_losses"] = numpy_of(token_losses);
  return fields;
}

/// Throws ShapeError on all ranks if some have what others have not.
void require_all_or_none(MPI_Comm comm, const std::string& what, bool given) {
  const int ranks = parallel::ranks_of(comm), with = parallel::all_reduce(given ? 1 : 0, MPI_SUM, comm);
  if (with == 0 || with == ranks) return;
  throw ShapeError(std::to_string(with) + " of " + std::to_string(ranks) + " ranks have " + what +
                   ": all must, or none");
}

/// What a loss is of: Views of the arrays; the next tokens where there are no targets. Collective.
struct Batch {
  Array<const std::int32_t**> ids, targets;
  std::optional<Array<const std::uint8_t**>> mask;

  Batch(const Sequence& sequence, const Rows<std::int32_t>& id_rows,
        const std::optional<Rows<std::int32_t>>& target_rows, const std::optional<Rows<std::uint8_t>>& mask_rows)
      : ids(view_of(id_rows)), mask(view_of(mask_rows)) {
    require_all_or_none(sequence.comm(), "targets", target_rows.has_value());
    require_all_or_none(sequence.comm(), "a mask", mask_rows.has_value());
    targets = target_rows ? view_of(*target_rows) : next_tokens(Execution(), sequence, ids, mask);
  }
};

// ---- Models ---------------------------------------------------------------------------------------------------------

/// A model of either precision, and the sequences that it was used for last: its workspace is kept for one.
class AnyModel {
 public:
  AnyModel(const nb::object& comm, MPI_Comm handle) : m_comm_object(comm), m_comm(handle) {}
  virtual ~AnyModel() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const char* precision() const = 0;
  /// Read-only NumPy arrays of all weights; on a host they share the model's memory.
  virtual ByName weights() const = 0;
  virtual void save(const std::string& path) const = 0;
  virtual nb::object forward(const Sequence& sequence, const Rows<std::int32_t>& ids,
                             const std::optional<Rows<std::uint8_t>>& mask) = 0;
  /// The fields of Loss.
  virtual ByName loss(const Sequence& sequence, const Rows<std::int32_t>& ids,
                      const std::optional<Rows<std::int32_t>>& targets,
                      const std::optional<Rows<std::uint8_t>>& mask) = 0;
  /// The fields of LossAndGradients.
  virtual ByName gradients(const Sequence& sequence, const Rows<std::int32_t>& ids,
                           const std::optional<Rows<std::int32_t>>& targets,
                           const std::optional<Rows<std::uint8_t>>& mask, Recompute recompute) = 0;
  /// A stream of no tokens. Collective.
  virtual std::unique_ptr<AnyStream> stream(std::int64_t batch) = 0;
  /// The stream of a state file. Collective.
  virtual std::unique_ptr<AnyStream> load_stream(const std::string& path) = 0;

  Sequence sequence(std::int64_t length, std::int64_t batch) {
    return kept_or_made(m_sequence, length, batch,
                        [&] { return Sequence(m_comm, batch, length, config().chunk_size); });
  }
  Sequence gradient_sequence(std::int64_t length, std::int64_t batch) {
    return kept_or_made(m_gradient_sequence, length, batch,
                        [&] { return bsbr::gradient_sequence(m_comm, batch, length, config().chunk_size); });
  }

 protected:
  MPI_Comm comm() const { return m_comm; }

 private:
  template <class Make>
  Sequence kept_or_made(std::optional<Sequence>& last, std::int64_t length, std::int64_t batch, const Make& make) {
    start();
    const nb::gil_scoped_release others_may_run;
    const bool kept = last && last->length() == length && last->batch() == batch;
    const bool kept_by_all = parallel::all_reduce(kept ? 1 : 0, MPI_MIN, m_comm) != 0;
    if (!kept_by_all) last = make();
    return *last;
  }

  nb::object m_comm_object;  // so that its handle stays valid
  MPI_Comm m_comm;
  std::optional<Sequence> m_sequence, m_gradient_sequence;
};

template <class Real>
class TypedModel : public AnyModel {
 public:
  TypedModel(const nb::object& comm, MPI_Comm handle, Model<Real> model)
      : AnyModel(comm, handle), m_model(std::move(model)) {}

  const ModelConfig& config() const override { return m_model.config(); }
  const char* precision() const override {
    if (m_model.weights().rounding() == Rounding::bfloat16) return "bfloat16";
    return std::is_same_v<Real, float> ? "float32" : "float64";
  }

  nb::object forward(const Sequence& sequence, const Rows<std::int32_t>& ids,
                     const std::optional<Rows<std::uint8_t>>& mask) override {
    start();
    Array<Real***> states;
    {
      const nb::gil_scoped_release others_may_run;
      states = m_model.forward(Execution(), sequence, view_of(ids), view_of(mask));
    }
    return numpy_of(states);
  }

  ByName loss(const Sequence& sequence, const Rows<std::int32_t>& ids, const std::optional<Rows<std::int32_t>>& targets,
              const std::optional<Rows<std::uint8_t>>& mask) override {
    start();
    MeanLoss mean;
    TokenLosses losses;
    {
      const nb::gil_scoped_release others_may_run;
      make_once(m_head, m_model.weights(), sequence.comm());
      const Execution execution;
      const Batch batch(sequence, ids, targets, mask);
      const Array<Real***> states = m_model.forward(execution, sequence, batch.ids, batch.mask);
      losses = m_head->losses(execution, sequence, states, batch.targets);
      mean = mean_loss(sequence, losses.loss, batch.targets);
    }
    return fields_of(mean, losses.loss);
  }

  ByName gradients(const Sequence& sequence, const Rows<std::int32_t>& ids,
                   const std::optional<Rows<std::int32_t>>& targets, const std::optional<Rows<std::uint8_t>>& mask,
                   Recompute recompute) override {
    start();
    std::optional<LossAndGradients<Real>> result;
    {
      const nb::gil_scoped_release others_may_run;
      make_once(m_gradient, m_model.weights(), sequence.comm());
      const Batch batch(sequence, ids, targets, mask);
      require_all_or_none(sequence.comm(), "recompute = none", recompute == Recompute::none);
      result = m_gradient->compute(Execution(), sequence, batch.ids, batch.targets, batch.mask, nullptr, recompute);
    }
    nb::dict fields = fields_of(result->loss, result->token_losses);
    fields["gradients"] = numpy_by_name<Real>(config(), result->gradients);
    return fields;
  }

  ByName weights() const override {
    // On a host nothing runs in Kokkos: any thread may read them, as multiprocessing's does that pickles.
    if constexpr (!Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible) start();
    return numpy_by_name<const Real>(config(), m_model.weights());
  }

  void save(const std::string& path) const override {
    start();
    const nb::gil_scoped_release others_may_run;
    write_model(path, m_model.weights());
  }

  std::unique_ptr<AnyStream> stream(std::int64_t batch) override {
    start();
    const nb::gil_scoped_release others_may_run;
    return make_stream(m_model, m_logits, Stream<Real>(config(), comm(), batch, m_model.weights().rounding()));
  }

  std::unique_ptr<AnyStream> load_stream(const std::string& path) override {
    start();
    const nb::gil_scoped_release others_may_run;
    return make_stream(m_model, m_logits, read_stream(path, m_model.weights(), comm()));
  }

 private:
  Model<Real> m_model;
  std::optional<OutputLayer<Real>> m_head;
  std::optional<ModelGradient<Real>> m_gradient;
  std::optional<LogitLayer<Real>> m_logits;  // for all streams
};

/// A path is bytes, as for the system. The configuration is read first, so that changes of it are refused before the
/// weights are read.
template <class Real, Rounding rounding = Rounding::none>
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
  weights.set_rounding(rounding);
  Model<Real> model(std::move(weights));
  const nb::gil_scoped_acquire for_the_communicator;
  return std::make_unique<TypedModel<Real>>(comm, handle, std::move(model));
}

template <class Real, Rounding rounding = Rounding::none>
std::unique_ptr<AnyModel> from_arrays(const ModelConfig& config, const ByName& arrays, const nb::object& comm) {
  const MPI_Comm handle = communicator(comm);
  auto weights = weights_of<Real>(config, arrays);
  weights.set_rounding(rounding);
  return std::make_unique<TypedModel<Real>>(comm, handle, Model<Real>(std::move(weights)));
}

std::string repr(const Sequence& sequence) {
  const std::string origin = sequence.origin() == 0 ? "" : ", origin=" + std::to_string(sequence.origin());
  return "Sequence(length=" + std::to_string(sequence.length()) + origin +
         ", batch=" + std::to_string(sequence.batch()) + ", chunk_size=" + std::to_string(sequence.chunk_size()) +
         ", rank=" + std::to_string(sequence.rank()) + ", ranks=" + std::to_string(sequence.ranks()) +
         ", first_token=" + std::to_string(sequence.first_token()) +
         ", local_tokens=" + std::to_string(sequence.local_tokens()) + ")";
}

void add_sequence(nb::module_& module) {
  nb::class_<Sequence>(
      module, "Sequence",
      "Shape of a batch of sequences of equal length, or of a piece of them, and the part of it that this rank holds. "
      "Made by Model.sequence, Model.gradient_sequence and Stream.sequence.")
      .def("__repr__", &repr)
      .def_prop_ro("batch", &Sequence::batch, "Number of sequences.")
      .def_prop_ro("length", &Sequence::length, "Tokens of one sequence, or of its piece, over all ranks.")
      .def_prop_ro("origin", &Sequence::origin, "Tokens of one sequence before these: 0 but for pieces of a stream.")
      .def_prop_ro("chunk_size", &Sequence::chunk_size, "Tokens in a chunk. A rank holds whole chunks.")
      .def_prop_ro("first_token", &Sequence::first_token,
                   "First token of this rank's part, by its place in the sequence.")
      .def_prop_ro("offset", &Sequence::offset,
                   "First token of this rank's part, by its place among these: first_token - origin.")
      .def_prop_ro("local_tokens", &Sequence::local_tokens,
                   "Tokens of one sequence that this rank holds; 0 if there are more ranks than chunks.")
      .def_prop_ro("rank", &Sequence::rank, "This process's rank in the model's communicator.")
      .def_prop_ro("ranks", &Sequence::ranks, "Number of ranks of the model's communicator.")
      .def("first_token_of", &Sequence::first_token_of, nb::arg("rank"),
           "First token of a rank's part, for rank = 0 … ranks; that of `ranks` is `origin + length`.");
}

}  // namespace

void add_model(nb::module_& module) {
  add_sequence(module);
  add_stream(module);
  nb::enum_<Recompute> recompute(module, "Recompute");
  for (const auto& [value, name] : recomputations) recompute.value(std::string(name).c_str(), value);
  nb::class_<AnyModel>(module, "Model")
      .def_prop_ro("config", &AnyModel::config, nb::rv_policy::copy)
      .def_prop_ro("precision", &AnyModel::precision)
      .def_prop_ro("parameters", [](const AnyModel& model) { return parameter_count(model.config()); })
      .def("weights", &AnyModel::weights)
      .def("save",
           [](const AnyModel& model, const nb::bytes& path) {
             model.save({path.c_str(), path.size()});
           })
      .def("sequence", &AnyModel::sequence, nb::arg("length"), nb::arg("batch"))
      .def("gradient_sequence", &AnyModel::gradient_sequence, nb::arg("length"), nb::arg("batch"))
      .def("forward", &AnyModel::forward, nb::arg("sequence"), nb::arg("ids").noconvert(),
           nb::arg("mask").noconvert().none())
      .def("loss", &AnyModel::loss, nb::arg("sequence"), nb::arg("ids").noconvert(),
           nb::arg("targets").noconvert().none(), nb::arg("mask").noconvert().none())
      .def("gradients", &AnyModel::gradients, nb::arg("sequence"), nb::arg("ids").noconvert(),
           nb::arg("targets").noconvert().none(), nb::arg("mask").noconvert().none(), nb::arg("recompute"))
      .def("require_head", [](const AnyModel& model) { require_head(model.config()); })
      .def("stream", &AnyModel::stream, nb::arg("batch"), nb::keep_alive<0, 1>())
      .def(
          "load_stream",
          [](AnyModel& model, const nb::bytes& path) {
            return model.load_stream({path.c_str(), path.size()});
          },
          nb::arg("path"), nb::keep_alive<0, 1>());
  const nb::arg path("path"), config("config"), arrays("arrays"), changes("changes");
  module.def("load_float32", &load<float>, path, nb::arg("comm").none(), changes);
  module.def("load_float64", &load<double>, path, nb::arg("comm").none(), changes);
  module.def("load_bfloat16", &load<float, Rounding::bfloat16>, path, nb::arg("comm").none(), changes);
  module.def("from_arrays_float32", &from_arrays<float>, config, arrays, nb::arg("comm").none());
  module.def("from_arrays_float64", &from_arrays<double>, config, arrays, nb::arg("comm").none());
  module.def("from_arrays_bfloat16", &from_arrays<float, Rounding::bfloat16>, config, arrays, nb::arg("comm").none());
}

}  // namespace bsbr::python
