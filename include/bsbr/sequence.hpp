// How a batch of sequences is divided among the ranks of a communicator: by chunks.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>

#include "bsbr/partition.hpp"

namespace bsbr {

/// The shape of a batch of equally long sequences, and the part of it that this rank holds: the chunks
/// [first_chunk, first_chunk + local_chunks) of every sequence. Ranks beyond the number of chunks hold nothing.
///
/// A sequence may go on from tokens that were there before, `origin` of them. Positions, and the borders of chunks, are
/// those of the whole: its first chunk, and its last one, may have fewer tokens than the others.
class Sequence {
 public:
  /// Collective over `comm`, which is duplicated so that the library's messages never meet the caller's.
  /// \param comm the ranks that share the sequences
  /// \param batch number of sequences, 0 or more
  /// \param length tokens of one sequence, over all ranks, 0 or more
  /// \param chunk_size tokens in a chunk, 1 or more
  /// \param origin tokens of each sequence that come before these, 0 or more
  /// \param chunks_together so many chunks, counted from the first of these, are not divided among ranks; 1 or more
  /// \throws ConfigError if a number is outside its range
  /// \throws CommunicationError if MPI is not initialised or fails, or the ranks do not pass the same arguments
  Sequence(MPI_Comm comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size, std::int64_t origin = 0,
           std::int64_t chunks_together = 1);

  /// The next `length` tokens behind these, on the same ranks. Collective, but without a new communicator.
  /// \throws ConfigError if the length is negative, or the sequence would be too long
  /// \throws CommunicationError if MPI fails, or the ranks do not pass the same length
  Sequence next(std::int64_t length) const;

  std::int64_t batch() const { return m_batch; }              ///< number of sequences
  std::int64_t length() const { return m_length; }            ///< tokens of one sequence, over all ranks
  std::int64_t chunk_size() const { return m_chunk_size; }    ///< tokens in a chunk; the last one may have fewer
  std::int64_t origin() const { return m_origin; }            ///< tokens of one sequence that come before these
  std::int64_t end() const { return m_origin + m_length; }    ///< position behind the last token
  std::int64_t num_chunks() const { return m_chunks.items; }  ///< chunks of one sequence, over all ranks
  std::int64_t earlier_chunks() const { return m_origin / m_chunk_size; }  ///< whole chunks before these
  const Partition& chunks() const { return m_chunks; }                     ///< which rank has which chunks

  std::int64_t first_chunk() const { return m_chunks.begin(m_rank); }  ///< index of this rank's first chunk
  std::int64_t local_chunks() const { return m_chunks.size(m_rank); }  ///< number of chunks on this rank
  std::int64_t first_token() const { return first_token_of(m_rank); }  ///< position of this rank's first token
  std::int64_t local_tokens() const {
    return first_token_of(m_rank + 1) - first_token();
  }  ///< number of tokens on this rank
  /// Position of the first token of a rank's part; first_token_of(ranks()) = end().
  std::int64_t first_token_of(int rank) const;

  /// Index of this rank's first token among these: of a row of a file that holds them, for example.
  std::int64_t offset() const { return first_token() - m_origin; }

  int rank() const { return m_rank; }           ///< rank of this process
  int ranks() const { return m_chunks.parts; }  ///< number of ranks
  MPI_Comm comm() const {
    return *m_comm;
  }  ///< the duplicated communicator; it lives as long as the last copy of this Sequence

 private:
  Sequence(std::shared_ptr<MPI_Comm> comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size,
           std::int64_t origin, std::int64_t chunks_together);

  std::shared_ptr<MPI_Comm> m_comm;
  std::int64_t m_batch, m_length, m_chunk_size, m_origin;
  Partition m_chunks;
  int m_rank = 0;
};

}  // namespace bsbr
