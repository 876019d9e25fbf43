#include "bsbr/sequence.hpp"

#include <array>
#include <string>

#include "bsbr/error.hpp"
#include "parallel/collectives.hpp"

namespace bsbr {
namespace {

/// A duplicate that is freed with its last owner, unless MPI has been finalised by then.
std::shared_ptr<MPI_Comm> duplicate(MPI_Comm comm) {
  parallel::require_mpi();
  parallel::barrier(comm);  // duplicating has no time limit
  auto copy = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  parallel::check(MPI_Comm_dup(comm, copy.get()), "MPI_Comm_dup");
  return {copy.release(), [](MPI_Comm* owned) {
            int finalised = 0;
            MPI_Finalized(&finalised);
            if (finalised == 0) MPI_Comm_free(owned);
            delete owned;
          }};
}

/// Throws on all ranks unless all were given the same numbers.
void require_same(MPI_Comm comm, std::array<std::int64_t, 3> mine) {
  const std::vector<std::int64_t> both{mine[0],  mine[1],  mine[2],
                                       ~mine[0], ~mine[1], ~mine[2]};  // ~ turns the order round, for any number
  const auto extremes = parallel::all_reduce(both, MPI_MAX, comm);
  const std::array<const char*, 3> names{"batch", "length", "chunk_size"};
  for (std::size_t i = 0; i < 3; ++i) {
    if (extremes[i] == ~extremes[i + 3]) continue;
    throw CommunicationError(std::string("the ranks disagree on the sequence's ") + names[i] + ": " +
                             std::to_string(~extremes[i + 3]) + " on one, " + std::to_string(extremes[i]) +
                             " on another");
  }
}

}  // namespace

Sequence::Sequence(MPI_Comm comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size)
    : m_comm(duplicate(comm)), m_batch(batch), m_length(length), m_chunk_size(chunk_size) {
  require_same(*m_comm, {batch, length, chunk_size});
  if (batch < 0) throw ConfigError("batch = " + std::to_string(batch) + " is negative");
  if (length < 0) throw ConfigError("length = " + std::to_string(length) + " is negative");
  if (chunk_size < 1) throw ConfigError("chunk_size = " + std::to_string(chunk_size) + " is below 1");
  m_chunks.items = length / chunk_size + (length % chunk_size != 0 ? 1 : 0);
  m_chunks.parts = parallel::ranks_of(*m_comm);
  m_rank = parallel::rank_in(*m_comm);
}

std::int64_t Sequence::first_token_of(int rank) const {
  const std::int64_t chunk = m_chunks.begin(rank);
  return chunk == m_chunks.items ? m_length : chunk * m_chunk_size;
}

}  // namespace bsbr
