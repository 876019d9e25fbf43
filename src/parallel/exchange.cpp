#include "parallel/exchange.hpp"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "bsbr/error.hpp"
#include "parallel/agree.hpp"

namespace bsbr::parallel {
namespace {

constexpr std::int64_t piece = 1 << 27;  // numbers in one message: below MPI's int counts, in bytes too
constexpr int tag = 1;

template <class Real>
MPI_Datatype type_of() {
  if constexpr (std::is_same_v<Real, float>)
    return MPI_FLOAT;
  else if constexpr (std::is_same_v<Real, double>)
    return MPI_DOUBLE;
  else
    return MPI_BYTE;
}

}  // namespace

template <class Real>
Exchange<Real>::Exchange(const Execution& execution, MPI_Comm comm, const Array<const Real*>& source, std::vector<Segment> to,
                         const Array<Real*>& target, std::vector<Segment> from)
    : m_execution(execution), m_to(std::move(to)), m_from(std::move(from)), m_target(target) {
  m_host_target = Kokkos::create_mirror_view(Kokkos::HostSpace(), target);
  execution.fence();
  m_host_source = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), source);
  start(comm);
}

template <class Real>
void Exchange<Real>::start(MPI_Comm comm) {
  int rank = 0;
  check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  const auto for_pieces = [&](const Segment& segment, auto&& function) {
    for (std::int64_t done = 0; done < segment.count; done += piece) {
      m_requests.push_back(MPI_REQUEST_NULL);
      function(segment.offset + done, static_cast<int>(std::min(piece, segment.count - done)), &m_requests.back());
    }
  };
  const auto ranks = static_cast<int>(m_to.size());
  for (int step = 1; step < ranks; ++step) {
    const int peer = (rank + ranks - step) % ranks;
    for_pieces(m_from[static_cast<std::size_t>(peer)], [&](std::int64_t offset, int count, MPI_Request* request) {
      check(MPI_Irecv(m_host_target.data() + offset, count, type_of<Real>(), peer, tag, comm, request), "MPI_Irecv");
    });
  }
  for (int step = 1; step < ranks; ++step) {
    const int peer = (rank + step) % ranks;
    for_pieces(m_to[static_cast<std::size_t>(peer)], [&](std::int64_t offset, int count, MPI_Request* request) {
      check(MPI_Isend(m_host_source.data() + offset, count, type_of<Real>(), peer, tag, comm, request), "MPI_Isend");
      m_bytes_sent += count * static_cast<std::int64_t>(sizeof(Real));
      ++m_messages_sent;
    });
  }
  const Segment own_source = m_to[static_cast<std::size_t>(rank)], own_target = m_from[static_cast<std::size_t>(rank)];
  std::copy_n(m_host_source.data() + own_source.offset, own_source.count, m_host_target.data() + own_target.offset);
}

template <class Real>
void Exchange<Real>::progress() {
  int done = 0;
  check(MPI_Testall(static_cast<int>(m_requests.size()), m_requests.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
}

template <class Real>
void Exchange<Real>::wait() {
  check(MPI_Waitall(static_cast<int>(m_requests.size()), m_requests.data(), MPI_STATUSES_IGNORE), "MPI_Waitall");
  m_requests.clear();
  if (m_host_target.data() == m_target.data()) return;
  Kokkos::deep_copy(m_execution, m_target, m_host_target);
  m_execution.fence();  // the copy's source may be gone soon
}

template <class Real>
Exchange<Real>::~Exchange() {
  // Buffers must outlive their messages, also when an exception passes here.
  if (!m_requests.empty()) MPI_Waitall(static_cast<int>(m_requests.size()), m_requests.data(), MPI_STATUSES_IGNORE);
}

template <class Real>
Gather<Real>::Gather(const Execution& execution, MPI_Comm comm, const Array<Real*>& data, std::int64_t row,
                     const std::vector<Segment>& segments)
    : m_execution(execution), m_data(data) {
  execution.fence();
  m_host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), data);
  int rank = 0;
  check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  for (const Segment& segment : segments) {
    m_counts.push_back(static_cast<int>(segment.count));
    m_offsets.push_back(static_cast<int>(segment.offset));
  }
  if (row > std::numeric_limits<int>::max())
    throw CommunicationError("rows of " + std::to_string(row) + " numbers are more than MPI counts");
  check(MPI_Type_contiguous(static_cast<int>(row), type_of<Real>(), &m_row), "MPI_Type_contiguous");
  check(MPI_Type_commit(&m_row), "MPI_Type_commit");
  const auto own = segments[static_cast<std::size_t>(rank)].count;
  m_bytes_sent = own * row * static_cast<std::int64_t>(sizeof(Real)) * (static_cast<std::int64_t>(segments.size()) - 1);
  check(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, m_host.data(), m_counts.data(), m_offsets.data(), m_row, comm, &m_request),
        "MPI_Iallgatherv");
}

template <class Real>
void Gather<Real>::progress() {
  int done = 0;
  check(MPI_Test(&m_request, &done, MPI_STATUS_IGNORE), "MPI_Test");
}

template <class Real>
void Gather<Real>::wait() {
  check(MPI_Wait(&m_request, MPI_STATUS_IGNORE), "MPI_Wait");
  if (m_host.data() == m_data.data()) return;
  Kokkos::deep_copy(m_execution, m_data, m_host);
  m_execution.fence();
}

template <class Real>
Gather<Real>::~Gather() {
  if (m_request != MPI_REQUEST_NULL) MPI_Wait(&m_request, MPI_STATUS_IGNORE);
  if (m_row != MPI_DATATYPE_NULL) MPI_Type_free(&m_row);
}

template class Exchange<float>;
template class Exchange<double>;
template class Exchange<std::uint8_t>;
template class Gather<float>;
template class Gather<double>;
template class Gather<std::uint8_t>;

}  // namespace bsbr::parallel
