// Streams of a model in Python.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "arrays.hpp"
#include "bsbr/bsbr.hpp"

namespace bsbr::python {

/// A stream of either precision, and the model that is fed.
class AnyStream {
 public:
  virtual ~AnyStream() = default;

  virtual std::int64_t batch() const = 0;
  virtual std::int64_t tokens() const = 0;
  virtual std::int64_t bytes() const = 0;
  /// Shape of the next tokens. Collective.
  virtual Sequence next(std::int64_t length) const = 0;
  virtual void reserve(std::int64_t tokens) = 0;
  /// Hidden states of the piece, [batch, local tokens, hidden_dim]. Collective.
  virtual nb::object feed(const Sequence& piece, const Rows<std::int32_t>& ids,
                          const std::optional<Rows<std::uint8_t>>& mask) = 0;
  /// Logits of the last tokens, [batch, vocab_size]. Collective.
  virtual nb::object logits() = 0;
  /// The next id of each sequence, [batch, 1]. Collective.
  virtual nb::object choose(Sampler& sampler) = 0;
  virtual void save(const std::string& path) const = 0;
  /// On rank 0 the same stream for that rank alone, null on the others: go on with one of the two only. Collective.
  virtual std::unique_ptr<AnyStream> gather_on_first() const = 0;
};

/// A stream of a model, which must outlive it. `head` is the model's, and made when it is needed first.
template <class Real>
std::unique_ptr<AnyStream> make_stream(Model<Real>& model, std::optional<LogitLayer<Real>>& head, Stream<Real> stream);

}  // namespace bsbr::python
