// Token files that are read piece by piece, and files of losses that have come in pieces.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bsbr/io.hpp"

namespace bsbr {

/// Reads this rank's part of sequence.length() tokens of each row, from that at `first` on, as read_tokens() does of
/// the first ones. Collective over the sequence's communicator. \throws FileError on all ranks, as read_tokens()
Tokens read_tokens(const TokenSource& source, const Sequence& sequence, std::int64_t vocab_size, std::int64_t first);

/// Tokens [first, first + count) of each sequence of a batch.
struct TokenRange {
  std::int64_t first = 0;  ///< of each sequence
  std::int64_t count = 0;  ///< how many
};

/// Writes a file of losses, as the other write_token_losses() does, of sequences whose losses have come in pieces.
/// Collective over `comm`.
/// \param path of the file
/// \param config of the model
/// \param attributes of the file, besides
/// \param comm the ranks that have the losses
/// \param batch number of sequences
/// \param length tokens of each
/// \param loss the mean
/// \param ranges the tokens whose losses this rank has; each is in a range of one rank
/// \param token_losses one range after the other, [batch, count] each
/// \throws OutputError on all ranks if the file cannot be written
/// \throws ShapeError on all ranks if there are other losses than ranges say
void write_token_losses(const std::string& path, const ModelConfig& config, const Attributes& attributes, MPI_Comm comm,
                        std::int64_t batch, std::int64_t length, double loss, const std::vector<TokenRange>& ranges,
                        const std::vector<double>& token_losses);

}  // namespace bsbr
