// Stream and Sampler in Python.
#include "stream.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <new>
#include <span>
#include <utility>

#include "make_once.hpp"
#include "module.hpp"

namespace bsbr::python {
namespace {

template <class Real>
class TypedStream : public AnyStream {
 public:
  TypedStream(Model<Real>& model, std::optional<LogitLayer<Real>>& head, Stream<Real> stream)
      : m_model(model), m_head(head), m_stream(std::move(stream)) {}

  std::int64_t batch() const override { return m_stream.batch(); }
  std::int64_t tokens() const override { return m_stream.tokens(); }
  std::int64_t bytes() const override { return m_stream.bytes(); }

  Sequence next(std::int64_t length) const override {
    start();
    const nb::gil_scoped_release others_may_run;
    return m_stream.next(length);
  }

  void reserve(std::int64_t tokens) override {
    start();
    const nb::gil_scoped_release others_may_run;
    m_stream.reserve(tokens);
  }

  nb::object feed(const Sequence& piece, const Rows<std::int32_t>& ids,
                  const std::optional<Rows<std::uint8_t>>& mask) override {
    start();
    Array<Real***> states;
    {
      const nb::gil_scoped_release others_may_run;
      states = m_stream.feed(Execution(), m_model, piece, view_of(ids), view_of(mask));
    }
    return numpy_of(states);
  }

  nb::object logits() override {
    start();
    HostArray<Real**> copy;
    {
      const nb::gil_scoped_release others_may_run;
      const auto logits = last_logits();
      copy = HostArray<Real**>("bsbr::python::logits", logits.extent(0), logits.extent(1));
      Kokkos::deep_copy(copy, logits);
    }
    return numpy_of(copy);
  }

  nb::object choose(Sampler& sampler) override {
    start();
    HostArray<std::int32_t**> ids;
    {
      const nb::gil_scoped_release others_may_run;
      const auto logits = last_logits();
      ids = HostArray<std::int32_t**>("bsbr::python::ids", logits.extent(0), 1);
      for (std::size_t row = 0; row < logits.extent(0); ++row) {
        const std::span<const Real> of_row(&logits(row, 0), logits.extent(1));
        ids(row, 0) = sampler.choose(of_row, tokens(), static_cast<std::int64_t>(row));
      }
    }
    return numpy_of(ids);
  }

  void save(const std::string& path) const override {
    start();
    const nb::gil_scoped_release others_may_run;
    write_stream(path, m_stream, m_model.weights());
  }

  std::unique_ptr<AnyStream> gather_on_first() const override {
    start();
    const nb::gil_scoped_release others_may_run;
    auto gathered = bsbr::gather_on_first(Execution(), m_stream);
    return gathered ? make_stream(m_model, m_head, std::move(*gathered)) : nullptr;
  }

 private:
  /// The head's own array.
  typename LogitLayer<Real>::Logits last_logits() {
    make_once(m_head, m_model.weights(), m_stream.comm());
    if (!m_stream.is_whole()) throw ShapeError("an earlier piece of this stream has failed: it cannot go on");
    if (tokens() == 0) throw ShapeError("the stream has read no token: there is none to go on from");
    return m_head->logits(Execution(), m_stream.last_states());
  }

  Model<Real>& m_model;
  std::optional<LogitLayer<Real>>& m_head;
  Stream<Real> m_stream;
};

void make_sampler(Sampler* place, double temperature, std::int64_t top_k, double top_p, std::uint64_t seed) {
  new (place) Sampler(SamplingOptions{.temperature = temperature, .top_k = top_k, .top_p = top_p, .seed = seed});
}

}  // namespace

template <class Real>
std::unique_ptr<AnyStream> make_stream(Model<Real>& model, std::optional<LogitLayer<Real>>& head, Stream<Real> stream) {
  return std::make_unique<TypedStream<Real>>(model, head, std::move(stream));
}

template std::unique_ptr<AnyStream> make_stream(Model<float>&, std::optional<LogitLayer<float>>&, Stream<float>);
template std::unique_ptr<AnyStream> make_stream(Model<double>&, std::optional<LogitLayer<double>>&, Stream<double>);

void add_stream(nb::module_& module) {
  nb::class_<Sampler>(module, "Sampler")
      .def("__init__", &make_sampler, nb::arg("temperature"), nb::arg("top_k"), nb::arg("top_p"), nb::arg("seed"));
  nb::class_<AnyStream>(module, "Stream")
      .def_prop_ro("batch", &AnyStream::batch)
      .def_prop_ro("tokens", &AnyStream::tokens)
      .def_prop_ro("held_bytes", &AnyStream::bytes)  // `bytes` is a type in the stub
      .def("next", &AnyStream::next, nb::arg("length"))
      .def("reserve", &AnyStream::reserve, nb::arg("tokens"))
      .def("feed", &AnyStream::feed, nb::arg("piece"), nb::arg("ids").noconvert(), nb::arg("mask").noconvert().none())
      .def("logits", &AnyStream::logits)
      .def("choose", &AnyStream::choose, nb::arg("sampler"))
      .def(
          "save",
          [](const AnyStream& stream, const nb::bytes& path) {
            stream.save({path.c_str(), path.size()});
          },
          nb::arg("path"))
      .def("gather_on_first", &AnyStream::gather_on_first, nb::keep_alive<0, 1>(),
           nb::sig("def gather_on_first(self) -> Stream | None"));
}

}  // namespace bsbr::python
