// What bsbr_evaluate takes of its input: the sequences as they are, all of them at a time, or windows of the only one,
// some at a time.
#pragma once

#include <cstdint>
#include <optional>

#include "bsbr/io.hpp"
#include "bsbr/sequence.hpp"
#include "programs/evaluate_options.hpp"
#include "programs/model_run.hpp"

namespace bsbr::apps {

/// The sequences that are evaluated. Window i of a stream has the ids [i·stride, i·stride + length), whose targets are
/// those from i·stride + 1 on.
struct EvaluatedSequences {
  std::int64_t count = 0;              ///< in all
  std::int64_t length = 0;             ///< tokens of each
  std::int64_t batch = 0;              ///< how many at a time, count at most
  std::optional<std::int64_t> stride;  ///< of windows; empty: the sequences are those of the input

  std::int64_t batches() const { return (count + batch - 1) / batch; }
};

/// What is evaluated of an input of this shape, of which `path` is the file; with gradients one batch. Throws FileError
/// if there are several sequences where windows are to be cut, or not enough ids for one; UsageError if there would be
/// too many.
EvaluatedSequences choose_sequences(const EvaluateOptions& options, const std::string& path, const TokenShape& shape);

/// Sequences that are evaluated at a time.
struct Batch {
  std::int64_t first;                        ///< number of the first of them
  Sequence sequence;                         ///< their shape, and this rank's part
  Tokens tokens;                             ///< on the host
  std::optional<DeviceTokens> device;        ///< where the kernels run
  Array<const std::int32_t**> targets = {};  ///< the same, [batch, local tokens]

  std::int64_t size() const { return sequence.batch(); }
};

/// The sequences `first` to first + sequence.batch() − 1. Of a stream's windows only the first one counts whole, the
/// others as far as they go on from the one before: their last `stride` tokens. Collective. Throws what read_tokens()
/// and read_windows() throw.
Batch read_batch(const TokenSource& source, const EvaluatedSequences& all, std::int64_t first, const Sequence& sequence,
                 std::int64_t vocab_size);

/// The next tokens of all sequences, of which `length` are evaluated: those from `first` on, counted in the input.
/// Their targets are those of the whole. Collective. Throws what read_tokens() throws.
Batch read_piece(const TokenSource& source, const Sequence& piece, std::int64_t first, std::int64_t length,
                 std::int64_t vocab_size);

}  // namespace bsbr::apps
