#include "programs/evaluation_input.hpp"

#include <algorithm>
#include <vector>

#include "bsbr/loss.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/token_pieces.hpp"
#include "harness/format.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr std::int64_t tokens_at_a_time = 16384;  // of windows, unless --batch says otherwise

/// Where the windows begin that are read at a time.
std::vector<std::int64_t> begins_of(std::int64_t first, std::int64_t count, std::int64_t stride) {
  std::vector<std::int64_t> begins;
  for (std::int64_t window = first; window < first + count; ++window) begins.push_back(window * stride);
  return begins;
}

/// The targets of windows, or of a piece, which counts whole: `next`, which they are made of, has the ids behind their
/// tokens.
HostArray<std::int32_t**> window_targets(const Batch& batch, const Tokens& next, std::int64_t stride) {
  const Sequence& sequence = batch.sequence;
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    const std::int64_t begin = batch.first + row == 0 ? 0 : sequence.length() - stride;  // of what counts
    for (std::int64_t t = 0; t < sequence.local_tokens(); ++t) {
      const bool is_padding = next.mask && ((*batch.tokens.mask)(row, t) == 0 || (*next.mask)(row, t) == 0);
      if (is_padding || sequence.offset() + t < begin) next.ids(row, t) = no_target;
    }
  }
  return next.ids;
}

}  // namespace

EvaluatedSequences choose_sequences(const EvaluateOptions& options, const std::string& path, const TokenShape& shape) {
  if (!options.length) return {shape.batch, shape.length, shape.batch, std::nullopt};
  const std::int64_t length = *options.length, stride = options.stride.value_or(length);
  if (shape.batch != 1) {
    throw FileError(path + ": holds " + show_several(shape.batch, "sequence") + ", --length cuts a single one",
                    "without --length each sequence is evaluated as a whole");
  }
  if (shape.length <= length) {
    throw FileError(path + ": holds " + show_count(shape.length) + " ids, a window of --length " + show_count(length) +
                        " takes " + show_count(length + 1) + ", as the last token's target is the id behind it",
                    "a smaller --length, or none: then the whole is one sequence");
  }
  const std::int64_t windows = (shape.length - length - 1) / stride + 1;
  if (static_cast<double>(windows) * static_cast<double>(length) > CommandLine::largest_count) {
    throw UsageError(
        "--stride: " + show_several(windows, "window") + " of " + show_count(length) + " tokens are too many",
        "a larger --stride, or --max-tokens");
  }
  const std::int64_t batch =
      std::min(windows, options.batch.value_or(std::max<std::int64_t>(1, tokens_at_a_time / length)));
  return {options.gradients.empty() ? windows : batch, length, batch, stride};
}

Batch read_batch(const TokenSource& source, const EvaluatedSequences& all, std::int64_t first, const Sequence& sequence,
                 std::int64_t vocab_size) {
  const MPI_Comm comm = sequence.comm();
  if (!all.stride) {
    Batch batch{first, sequence, read_tokens(source, sequence, vocab_size), std::nullopt};
    parallel::agree(comm, [&] { batch.device.emplace(batch.tokens); });
    batch.targets = next_tokens(Execution(), sequence, batch.device->ids, batch.device->mask);
    return batch;
  }
  auto begins = begins_of(first, sequence.batch(), *all.stride);
  Batch batch{first, sequence, read_windows(source, sequence, begins, vocab_size), std::nullopt};
  for (std::int64_t& begin : begins) ++begin;
  const Tokens next = read_windows(source, sequence, begins, vocab_size);
  parallel::agree(comm, [&] {
    batch.device.emplace(batch.tokens);
    batch.targets = Kokkos::create_mirror_view_and_copy(Memory(), window_targets(batch, next, *all.stride));
  });
  return batch;
}

Batch read_piece(const TokenSource& source, const Sequence& piece, std::int64_t first, std::int64_t length,
                 std::int64_t vocab_size) {
  const MPI_Comm comm = piece.comm();
  Batch batch{0, piece, read_tokens(source, piece, vocab_size, first), std::nullopt};
  parallel::agree(comm, [&] { batch.device.emplace(batch.tokens); });
  if (first + piece.length() == length) {
    batch.targets = next_tokens(Execution(), piece, batch.device->ids, batch.device->mask);
    return batch;
  }
  const Tokens next = read_tokens(source, piece, vocab_size, first + 1);
  parallel::agree(comm, [&] {
    batch.targets = Kokkos::create_mirror_view_and_copy(Memory(), window_targets(batch, next, piece.length()));
  });
  return batch;
}

}  // namespace bsbr::apps
