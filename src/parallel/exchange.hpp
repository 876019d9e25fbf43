// Non-blocking messages between all ranks: what the transfers are made of.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bsbr/partition.hpp"
#include "bsbr/types.hpp"
#include "parallel/staging.hpp"

namespace bsbr::parallel {

/// A contiguous range of a buffer that goes to, or comes from, one rank. In elements, not bytes.
struct Segment {
  std::int64_t offset = 0, count = 0;
};

/// A segment for each part of a partition whose items have that many elements each.
std::vector<Segment> segments_of(const Partition& partition, std::int64_t elements = 1);

/// A buffer as MPI is given it: the View's own memory, or a copy on the host where MPI does not take that.
template <class Number>
class MessageBuffer {
 public:
  explicit MessageBuffer(const Array<Number*>& data);

  Number* at(std::int64_t offset) const {
    return m_staged != nullptr ? m_host.data() + offset : m_data.data() + offset;
  }

  /// Before a segment is sent, and after one has come: in the order of `execution`, which the caller fences, once for
  /// several segments.
  void prepare(const Execution& execution, const Segment& segment) const;
  void deliver(const Execution& execution, const Segment& segment) const;

  /// Neither memory is ever given back: MPI may still be using it.
  void keep_for_ever() const;

 private:
  Array<Number*> m_data;
  std::shared_ptr<const StagingBuffer> m_staged;  // null where MPI takes m_data itself
  Kokkos::View<Number*, Kokkos::LayoutRight, StagingSpace, Kokkos::MemoryUnmanaged> m_host;  // of m_staged
};

/// Sends one segment to each rank and receives one from each, as an all-to-all does, but split where MPI's counts end,
/// each when it is ready. A rank's own segment is copied.
template <class Number>
class Exchange {
 public:
  /// Segments by rank. Receives from now on; sends nothing yet. The buffers live, and the segments of the target are
  /// left alone, until wait(), and those of the source from send() to wait().
  Exchange(const Execution& execution, MPI_Comm comm, const Array<Number*>& source, std::vector<Segment> to,
           const Array<Number*>& target, std::vector<Segment> from);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange();

  /// A rank's segment, or all of them, starts on its way. The kernels that write it need not be done.
  void send(int rank);
  void send();

  /// Lets MPI go on with what is under way; call now and then while computing.
  void progress();

  /// A rank's segment has arrived.
  void wait_for(int rank);

  /// Everything has arrived, and the source may be changed. Throws CommunicationError, as all of these.
  void wait();

  /// What has gone to other ranks, and in how many messages.
  std::int64_t bytes_sent() const { return m_bytes_sent; }
  std::int64_t messages_sent() const { return m_messages_sent; }

 private:
  void receive();
  void post(int rank);
  void deliver(int rank);
  void abandon() noexcept;
  void copy_own() const;

  Execution m_execution;
  MPI_Comm m_comm;
  int m_rank;
  std::vector<Segment> m_to, m_from;
  Array<Number*> m_source, m_target;
  MessageBuffer<Number> m_outgoing, m_incoming;
  std::vector<MPI_Request> m_receives, m_sends;
  std::vector<Segment> m_receives_from;  // by rank, of m_receives
  std::vector<bool> m_delivered;         // by rank
  std::int64_t m_bytes_sent = 0, m_messages_sent = 0;
};

/// Every rank's items to every rank, in place: `data` holds rows of `row` elements, those of rank p in segments[p] (in
/// rows), this rank's own filled in. The data must stay as they are until wait().
template <class Number>
class Gather {
 public:
  /// Returns at once.
  Gather(const Execution& execution, MPI_Comm comm, const Array<Number*>& data, std::int64_t row,
         const std::vector<Segment>& segments);
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
  MPI_Comm m_comm;
  Segment m_all;
  MessageBuffer<Number> m_buffer;
  std::vector<int> m_counts, m_offsets;
  MPI_Datatype m_row = MPI_DATATYPE_NULL;
  std::vector<MPI_Request> m_request;
  std::int64_t m_bytes_sent = 0;
};

}  // namespace bsbr::parallel
