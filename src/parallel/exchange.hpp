// Non-blocking messages between all ranks: what the movements are made of.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "bsbr/types.hpp"

namespace bsbr::parallel {

/// A contiguous part of a buffer that goes to, or comes from, one rank. In numbers, not bytes.
struct Segment {
  std::int64_t offset = 0, count = 0;
};

/// Sends one segment to each rank and receives one from each, as an all-to-all does, but split where MPI's counts end, and staged through
/// the host where the buffers are not the host's. A rank's own segment is copied.
template <class Real>
class Exchange {
 public:
  /// Segments by rank. Receives before it sends; returns at once. The buffers must stay as they are until wait().
  Exchange(const Execution& execution, MPI_Comm comm, const Array<const Real*>& source, std::vector<Segment> to, const Array<Real*>& target,
           std::vector<Segment> from);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange();

  /// Lets MPI go on with what is under way; call now and then while computing.
  void progress();

  /// Everything has arrived, and the source may be changed. Throws CommunicationError.
  void wait();

  /// What goes to other ranks, and in how many messages.
  std::int64_t bytes_sent() const { return m_bytes_sent; }
  std::int64_t messages_sent() const { return m_messages_sent; }

 private:
  void start(MPI_Comm comm);

  Execution m_execution;
  std::vector<Segment> m_to, m_from;
  Array<Real*> m_target;
  HostArray<const Real*> m_host_source;
  HostArray<Real*> m_host_target;
  std::vector<MPI_Request> m_requests;
  std::int64_t m_bytes_sent = 0, m_messages_sent = 0;
};

/// Every rank's items to every rank, in place: `data` holds rows of `row` numbers, those of rank p in segments[p] (in rows), this rank's
/// own filled in. The data must stay as they are until wait().
template <class Real>
class Gather {
 public:
  /// Returns at once.
  Gather(const Execution& execution, MPI_Comm comm, const Array<Real*>& data, std::int64_t row, const std::vector<Segment>& segments);
  Gather(const Gather&) = delete;
  Gather& operator=(const Gather&) = delete;
  ~Gather();

  /// As of Exchange.
  void progress();
  void wait();

  /// What this rank passes on, and to how many ranks.
  std::int64_t bytes_sent() const { return m_bytes_sent; }
  std::int64_t messages_sent() const { return static_cast<std::int64_t>(m_counts.size()) - 1; }

 private:
  Execution m_execution;
  Array<Real*> m_data;
  HostArray<Real*> m_host;
  std::vector<int> m_counts, m_offsets;
  MPI_Datatype m_row = MPI_DATATYPE_NULL;
  MPI_Request m_request = MPI_REQUEST_NULL;
  std::int64_t m_bytes_sent = 0;
};

}  // namespace bsbr::parallel
