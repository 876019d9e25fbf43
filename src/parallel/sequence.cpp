#include "bsbr/sequence.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>

#include "bsbr/error.hpp"
#include "parallel/collectives.hpp"

namespace bsbr {
namespace {

/// Throws on all ranks unless all were given the same numbers.
void require_same(MPI_Comm comm, const std::array<std::int64_t, 5>& mine) {
  std::vector<std::int64_t> both(mine.begin(), mine.end());
  for (const std::int64_t number : mine) both.push_back(~number);  // ~ turns the order round, for any number
  const auto extremes = parallel::all_reduce(both, MPI_MAX, comm);
  const std::array<const char*, 5> names{"batch", "length", "chunk_size", "origin", "chunks_together"};
  for (std::size_t i = 0; i < mine.size(); ++i) {
    const std::int64_t least = ~extremes[i + mine.size()];
    if (extremes[i] == least) continue;
    throw CommunicationError(std::string("the ranks disagree on the sequence's ") + names[i] + ": " +
                             std::to_string(least) + " on one, " + std::to_string(extremes[i]) + " on another");
  }
}

}  // namespace

Sequence::Sequence(MPI_Comm comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size, std::int64_t origin,
                   std::int64_t chunks_together)
    : Sequence(parallel::duplicate(comm), batch, length, chunk_size, origin, chunks_together) {}

Sequence::Sequence(std::shared_ptr<MPI_Comm> comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size,
                   std::int64_t origin, std::int64_t chunks_together)
    : m_comm(std::move(comm)), m_batch(batch), m_length(length), m_chunk_size(chunk_size), m_origin(origin) {
  require_same(*m_comm, {batch, length, chunk_size, origin, chunks_together});
  if (batch < 0) throw ConfigError("batch = " + std::to_string(batch) + " is negative");
  if (length < 0) throw ConfigError("length = " + std::to_string(length) + " is negative");
  if (chunk_size < 1) throw ConfigError("chunk_size = " + std::to_string(chunk_size) + " is below 1");
  if (origin < 0) throw ConfigError("origin = " + std::to_string(origin) + " is negative");
  if (chunks_together < 1) throw ConfigError("chunks_together = " + std::to_string(chunks_together) + " is below 1");
  if (length > std::numeric_limits<std::int64_t>::max() - origin)
    throw ConfigError("origin = " + std::to_string(origin) + " and length = " + std::to_string(length) +
                      " are more than can be counted");
  m_chunks.items = length == 0 ? 0 : (end() - 1) / chunk_size + 1 - earlier_chunks();
  m_chunks.parts = parallel::ranks_of(*m_comm);
  m_chunks.unit = chunks_together;
  m_rank = parallel::rank_in(*m_comm);
}

Sequence Sequence::next(std::int64_t length) const {
  return {m_comm, m_batch, length, m_chunk_size, end(), m_chunks.unit};
}

std::int64_t Sequence::first_token_of(int rank) const {
  const std::int64_t chunk = m_chunks.begin(rank);
  return chunk == m_chunks.items ? end() : std::max(m_origin, (earlier_chunks() + chunk) * m_chunk_size);
}

}  // namespace bsbr
