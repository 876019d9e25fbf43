// Choosing the next token: the logits of hidden states, and draws from their softmax.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bsbr/error.hpp"
#include "bsbr/weights.hpp"

namespace bsbr {

/// The head of a model for few rows at a time, such as the last tokens of some sequences: their logits themselves,
/// which OutputLayer never stores.
template <class Real>
class LogitLayer {
 public:
  /// Logits [rows, vocab_size] on the host; elements of a row lie one behind the other.
  using Logits = Kokkos::View<const Real**, Kokkos::LayoutStride, Kokkos::HostSpace>;

  /// The head of a model with these weights, of which it has a repacked copy on CPUs: later changes to `weights` have
  /// no effect there. \throws ConfigError if the model has no head \throws MemoryError if there is not enough memory
  explicit LogitLayer(const Weights<Real>& weights);

  /// logits(row, id) = y_row · W_id. On CPUs a row has the bits that OutputLayer gives its logits, whatever other rows
  /// there are. Not collective.
  /// \param execution where the kernels run; it has been fenced when this returns
  /// \param hidden_states after the final norm, [rows, hidden_dim]
  /// \returns the layer's own array: the next call writes others into it
  /// \throws ShapeError if the rows are not hidden_dim wide
  /// \throws MemoryError if there is not enough memory for so many rows
  Logits logits(const Execution& execution, const Array<const Real**>& hidden_states);

 private:
  struct Modules;
  ModelConfig m_config;
  std::shared_ptr<const Modules> m_modules;
  Array<Real**> m_logits;   // [most rows so far, vocab_size and what whole tiles need beyond]
  Array<Real**> m_rounded;  // [most rows so far, hidden_dim and as much]: hidden states as factors, if they are rounded
};

/// Predicts the bytes of a LogitLayer that has been given so many rows at most. Allocates nothing.
template <class Real>
std::int64_t logit_layer_bytes(const ModelConfig& config, std::int64_t rows, Rounding rounding = Rounding::none);

/// How the next token is chosen.
struct SamplingOptions {
  double temperature = 1;  ///< logits are divided by it; 0: the largest logit, ties to the smaller id
  std::int64_t top_k = 0;  ///< only the k largest logits, ties to smaller ids; 0: all
  double top_p = 1;        ///< above 0, to 1: of those only the most probable ones that together have probability p
  std::uint64_t seed = 0;  ///< of the random numbers

  /// \throws ConfigError if a number is outside its range
  void validate() const;
};

/// A logit is NaN or infinite: no token can be chosen.
class NonfiniteLogitError : public Error {
  using Error::Error;
};

/// Chooses tokens by their logits: docs/mathematics.md#choosing-the-next-token. What is chosen depends on the logits of
/// one row, its position, the number of its sequence and the options alone. Nothing is collective.
class Sampler {
 public:
  /// \throws ConfigError if an option is outside its range
  explicit Sampler(const SamplingOptions& options);

  /// The options that it was made with.
  const SamplingOptions& options() const { return m_options; }

  /// The id of the next token; of float or double.
  /// \param logits of all ids, [vocab_size]
  /// \param position of the token that is chosen, counted from the first one of its sequence
  /// \param sequence number of the sequence: each has random numbers of its own
  /// \throws NonfiniteLogitError if a logit is NaN or infinite \throws ShapeError if there are no logits
  template <class Real>
  std::int32_t choose(std::span<const Real> logits, std::int64_t position, std::int64_t sequence = 0);

 private:
  struct Candidate {
    double logit, weight;  // weight: e^((logit − the largest) / temperature)
    std::int32_t id;
  };

  static bool more_probable(const Candidate& one, const Candidate& other);
  void keep_top_k();
  void weigh(double largest);
  void keep_top_p();
  void keep_first(std::size_t count);
  double total() const;
  std::int32_t draw(double uniform) const;

  SamplingOptions m_options;
  std::vector<Candidate> m_candidates;  // those that are left, by id
};

}  // namespace bsbr
