// How a batch of sequences is split over the ranks of a communicator: by chunks.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>

namespace bsbr {

/// Contiguous parts of [0, items) for each of `ranks` ranks: rank p has [p·items/ranks, (p+1)·items/ranks). Sizes differ by one at most.
struct Partition {
  std::int64_t items = 0;  ///< chunks, for example
  int ranks = 1;           ///< of the communicator

  /// The first item of a rank's part.
  std::int64_t begin(int rank) const { return static_cast<std::int64_t>(static_cast<__int128>(items) * rank / ranks); }

  /// The first item after a rank's part.
  std::int64_t end(int rank) const { return begin(rank + 1); }

  /// Items in a rank's part.
  std::int64_t size(int rank) const { return end(rank) - begin(rank); }
};

/// Shape of a batch of equally long sequences and the part of it that this rank holds: the chunks [first_chunk, first_chunk + local_chunks)
/// of every sequence of the batch. Ranks beyond the number of chunks hold nothing.
class Sequence {
 public:
  /// Collective over `comm`, which is duplicated: the library's messages never meet the caller's.
  /// Throws ConfigError for a negative batch or length or chunk_size < 1, CommunicationError if MPI is not initialised, fails, or if the
  /// ranks do not agree on the arguments.
  Sequence(MPI_Comm comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size);

  std::int64_t batch() const { return m_batch; }              ///< number of sequences
  std::int64_t length() const { return m_length; }            ///< tokens of one sequence, over all ranks
  std::int64_t chunk_size() const { return m_chunk_size; }    ///< tokens in a chunk; the last one may have fewer
  std::int64_t num_chunks() const { return m_chunks.items; }  ///< of one sequence, over all ranks
  const Partition& chunks() const { return m_chunks; }        ///< which rank has which chunks

  std::int64_t first_chunk() const { return m_chunks.begin(m_rank); }                       ///< of this rank, in the sequence
  std::int64_t local_chunks() const { return m_chunks.size(m_rank); }                       ///< chunks that this rank has
  std::int64_t first_token() const { return first_token_of(m_rank); }                       ///< of this rank, in the sequence
  std::int64_t local_tokens() const { return first_token_of(m_rank + 1) - first_token(); }  ///< tokens that this rank has
  /// First token of a rank's part; first_token_of(ranks()) = length().
  std::int64_t first_token_of(int rank) const;

  int rank() const { return m_rank; }           ///< of this process
  int ranks() const { return m_chunks.ranks; }  ///< of the communicator
  MPI_Comm comm() const { return *m_comm; }     ///< the duplicate; it lives as long as the last copy of this Sequence

 private:
  std::shared_ptr<MPI_Comm> m_comm;
  std::int64_t m_batch, m_length, m_chunk_size;
  Partition m_chunks;
  int m_rank = 0;
};

}  // namespace bsbr
