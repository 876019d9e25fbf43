// Streams as the tests feed them.
#pragma once

#include <optional>
#include <vector>

#include "bsbr/stream.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {

/// Hidden states of the next tokens of a stream, [batch, tokens, hidden_dim] on every rank.
template <class Real>
std::vector<Real> feed(Stream<Real>& stream, Model<Real>& model, const Batch& piece) {
  const Sequence sequence = stream.next(piece.length);
  std::optional<Array<const std::uint8_t**>> mask;
  if (!piece.mask.empty()) mask = local_part<std::uint8_t>(sequence, piece.mask);
  const auto ids = local_part<std::int32_t>(sequence, piece.ids);
  return gather_tokens(sequence, stream.feed(Execution(), model, sequence, ids, mask));
}

}  // namespace bsbr::testing
