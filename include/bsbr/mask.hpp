// Which tokens are real and which are padding, and what follows from it for each chunk.
#pragma once

#include "bsbr/sequence.hpp"
#include "bsbr/types.hpp"

namespace bsbr {

/// The padding mask of a batch. Built once per forward pass, and used by all layers.
class PaddingMask {
 public:
  /// No padding: every token is real.
  PaddingMask(const Execution& execution, const Sequence& sequence);

  /// Makes one without padding that of another sequence with as many sequences, tokens and chunks. Allocates nothing;
  /// copies share the arrays, and change with it.
  void move_to(const Execution& execution, const Sequence& sequence);

  /// Collective over the sequence's communicator; exceptions are thrown on all ranks.
  /// \param execution where the kernels run
  /// \param sequence the shape of the batch
  /// \param mask [batch, local tokens]: 1 = real token, 0 = padding
  /// \throws ShapeError if extents do not fit, or a value is neither 0 nor 1
  /// \throws CommunicationError if MPI fails or a rank does not respond in time
  PaddingMask(const Execution& execution, const Sequence& sequence, const Array<const std::uint8_t**>& mask);

  /// Whether there is a mask, even one without a 0.
  bool has_padding() const { return m_tokens.data() != nullptr; }

  /// [batch, local tokens], or empty where there is no padding.
  const Array<const std::uint8_t**>& tokens() const { return m_tokens; }

  /// [batch, local chunks]: the last real token of each chunk, as an index into the local tokens; −1 if the chunk has
  /// none.
  Array<const std::int64_t**> last_real() const { return m_last_real; }

  /// [batch, chunks of the whole sequence]: 1 if the chunk has a real token.
  const Array<const std::uint8_t**>& real_chunks() const { return m_real_chunks; }

  /// [batch, chunks of the whole sequence]: the last chunk ≤ i that has a real token; −1 if there is none.
  const Array<const std::int64_t**>& nearest_real() const { return m_nearest_real; }

 private:
  Array<const std::uint8_t**> m_tokens;
  Array<std::int64_t**> m_last_real;
  Array<const std::uint8_t**> m_real_chunks;
  Array<const std::int64_t**> m_nearest_real;
};

}  // namespace bsbr
