#include "parallel/exchange.hpp"

#include <limits>
#include <string>
#include <utility>

#include "bsbr/error.hpp"
#include "parallel/mpi.hpp"
#include "parallel/wait.hpp"

namespace bsbr::parallel {
namespace {

constexpr int tag = 1;

std::size_t index(int rank) { return static_cast<std::size_t>(rank); }

}  // namespace

template <class Number>
Exchange<Number>::Exchange(const Execution& execution, MPI_Comm comm, const Array<Number*>& source,
                           std::vector<Slice> to, const Array<Number*>& target, std::vector<Slice> from)
    : m_execution(execution),
      m_comm(comm),
      m_rank(rank_in(comm)),
      m_to(std::move(to)),
      m_from(std::move(from)),
      m_source(source),
      m_target(target),
      m_outgoing(source),
      m_incoming(target),
      m_receives_from(m_from.size()),
      m_delivered(m_from.size(), false) {
  try {
    receive();
  } catch (...) {  // no destructor will see to it
    abandon();
    throw;
  }
}

template <class Number>
void Exchange<Number>::receive() {
  m_execution.fence();  // kernels that read the target before
  const auto ranks = static_cast<int>(m_from.size());
  for (int step = 1; step < ranks; ++step) {  // the rank that is first to send to this one first
    const int peer = (m_rank + ranks - step) % ranks;
    m_receives_from[index(peer)].offset = static_cast<std::int64_t>(m_receives.size());
    for_each_message(m_from[index(peer)], [&](std::int64_t offset, int count) {
      MPI_Request& request = m_receives.emplace_back(MPI_REQUEST_NULL);
      check(MPI_Irecv(m_incoming.at(offset), count, mpi_type<Number>(), peer, tag, m_comm, &request), "MPI_Irecv");
      ++m_receives_from[index(peer)].count;
    });
  }
}

template <class Number>
void Exchange<Number>::copy_own() const {
  const auto source = range_of(m_source, m_to[index(m_rank)]), target = range_of(m_target, m_from[index(m_rank)]);
  if (source.data() != target.data()) Kokkos::deep_copy(m_execution, target, source);
  m_execution.fence();
}

/// The messages of a slice that is prepared.
template <class Number>
void Exchange<Number>::post(int rank) {
  for_each_message(m_to[index(rank)], [&](std::int64_t offset, int count) {
    MPI_Request& request = m_sends.emplace_back(MPI_REQUEST_NULL);
    check(MPI_Isend(m_outgoing.at(offset), count, mpi_type<Number>(), rank, tag, m_comm, &request), "MPI_Isend");
    m_bytes_sent += count * static_cast<std::int64_t>(sizeof(Number));
    ++m_messages_sent;
  });
}

template <class Number>
void Exchange<Number>::send(int rank) {
  if (rank == m_rank) return copy_own();
  if (m_to[index(rank)].count == 0) return;
  m_outgoing.prepare(m_execution, m_to[index(rank)]);
  m_execution.fence();
  post(rank);
}

template <class Number>
void Exchange<Number>::send() {
  const auto ranks = static_cast<int>(m_to.size());
  Slice prepared;
  for (int rank = 0; rank < ranks; ++rank) {
    const Slice& slice = m_to[index(rank)];
    if (rank == m_rank || slice == prepared) continue;
    m_outgoing.prepare(m_execution, slice);
    prepared = slice;
  }
  m_execution.fence();
  for (int step = 1; step < ranks; ++step) post((m_rank + step) % ranks);
  copy_own();
}

template <class Number>
void Exchange<Number>::progress() {
  int done = 0;
  check(MPI_Testall(static_cast<int>(m_receives.size()), m_receives.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
  check(MPI_Testall(static_cast<int>(m_sends.size()), m_sends.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
}

template <class Number>
void Exchange<Number>::wait_for(int rank) {
  if (rank == m_rank || m_delivered[index(rank)]) return;
  const auto [offset, count] = m_receives_from[index(rank)];
  parallel::wait(m_comm,
                 std::span(m_receives).subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(count)),
                 "MPI_Irecv");
  deliver(rank);
  m_execution.fence();  // the buffer on the host may be gone soon
}

template <class Number>
void Exchange<Number>::deliver(int rank) {
  if (rank == m_rank || m_delivered[index(rank)]) return;
  m_incoming.deliver(m_execution, m_from[index(rank)]);
  m_delivered[index(rank)] = true;
}

template <class Number>
void Exchange<Number>::wait() {
  parallel::wait(m_comm, m_receives, "MPI_Irecv");
  for (int rank = 0; rank < static_cast<int>(m_from.size()); ++rank) deliver(rank);
  m_execution.fence();
  parallel::wait(m_comm, m_sends, "MPI_Isend");
}

template <class Number>
Exchange<Number>::~Exchange() {
  abandon();
}

/// Buffers must outlive their messages, also when an exception passes.
template <class Number>
void Exchange<Number>::abandon() noexcept {
  if (!settle(m_sends)) m_outgoing.keep_for_ever();
  if (!settle(m_receives)) m_incoming.keep_for_ever();
}

template <class Number>
Gather<Number>::Gather(const Execution& execution, MPI_Comm comm, const Array<Number*>& data, std::int64_t row,
                       const std::vector<Slice>& slices)
    : m_execution(execution), m_comm(comm), m_all{0, static_cast<std::int64_t>(data.extent(0))}, m_buffer(data) {
  m_buffer.prepare(execution, m_all);
  execution.fence();
  for (const Slice& slice : slices) {
    m_counts.push_back(static_cast<int>(slice.count));
    m_offsets.push_back(static_cast<int>(slice.offset));
  }
  if (row > std::numeric_limits<int>::max())
    throw CommunicationError("rows of " + std::to_string(row) + " elements are more than MPI counts");
  check(MPI_Type_contiguous(static_cast<int>(row), mpi_type<Number>(), &m_row), "MPI_Type_contiguous");
  check(MPI_Type_commit(&m_row), "MPI_Type_commit");
  const auto own = slices[index(rank_in(comm))].count;
  m_bytes_sent = own * row * static_cast<std::int64_t>(sizeof(Number)) * (static_cast<std::int64_t>(slices.size()) - 1);
  m_request.push_back(MPI_REQUEST_NULL);
  check(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, m_buffer.at(0), m_counts.data(), m_offsets.data(), m_row,
                        comm, m_request.data()),
        "MPI_Iallgatherv");
}

template <class Number>
void Gather<Number>::progress() {
  int done = 0;
  check(MPI_Testall(1, m_request.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
}

template <class Number>
void Gather<Number>::wait() {
  parallel::wait(m_comm, m_request, "MPI_Iallgatherv");
  m_buffer.deliver(m_execution, m_all);
  m_execution.fence();
}

template <class Number>
Gather<Number>::~Gather() {
  if (!settle(m_request)) {
    m_buffer.keep_for_ever();
    // NOLINTBEGIN(bugprone-unhandled-exception-at-new): where these few bytes are not to be had, the program ends, and
    // so does the message
    new auto(std::move(m_counts));
    new auto(std::move(m_offsets));
    // NOLINTEND(bugprone-unhandled-exception-at-new)
    return;  // m_row is in use, too
  }
  if (m_row != MPI_DATATYPE_NULL) MPI_Type_free(&m_row);
}

template class Exchange<float>;
template class Exchange<double>;
template class Exchange<std::uint8_t>;
template class Gather<float>;
template class Gather<double>;
template class Gather<std::uint8_t>;

}  // namespace bsbr::parallel
