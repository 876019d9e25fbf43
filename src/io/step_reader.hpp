// What a rank reads for a step of training: its part of each sequence, and the targets. Nothing here communicates.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bsbr/sequence.hpp"
#include "io/token_agreement.hpp"
#include "io/token_reader.hpp"

namespace bsbr::io {

/// Where a sequence is in the source: its first id in a stream, or its row. None: a sequence that fills up a step.
using Place = std::optional<std::int64_t>;

/// A rank's part of some sequences, [sequences, local tokens], one after the other.
struct StepPart {
  std::vector<std::int32_t> ids, targets;
  std::vector<std::uint8_t> mask;  // empty: the source has none
  BadElement bad_id, bad_mask;     // the first of each; where they stand, the arrays hold something harmless
};

/// Reads sequences of an open source. A stream of ids has one dimension, and a sequence's last target is the id behind
/// it; of two dimensions each row is a sequence, whose last token has none.
class StepReader {
 public:
  /// `sequence` says which part of each is this rank's.
  StepReader(std::unique_ptr<TokenReader> source, const Sequence& sequence, std::int64_t vocab_size);

  const TokenReader& source() const { return *m_source; }
  const TokenShape& shape() const { return m_shape; }

  /// One read of the local tokens and the one behind them for each place. Throws ContentError if the file cannot be
  /// read.
  StepPart read(const std::vector<Place>& places) const;

 private:
  struct Row;
  void read_row(std::int64_t place, const Row& row, StepPart& part) const;

  std::unique_ptr<TokenReader> m_source;
  TokenShape m_shape;
  std::int64_t m_length, m_offset, m_local, m_vocab_size;
};

}  // namespace bsbr::io
