// Non-blocking messages between all ranks: what the transfers are made of.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "bsbr/types.hpp"
#include "parallel/message_buffer.hpp"

namespace bsbr::parallel {

/// Sends one slice to each rank and receives one from each, as an all-to-all does, but split where MPI's counts end,
/// each when it is ready. A rank's own slice is copied.
template <class Number>
class Exchange {
 public:
  /// Slices by rank. Receives from now on; sends nothing yet. The buffers live, and the slices of the target are
  /// left alone, until wait(), and those of the source from send() to wait().
  Exchange(const Execution& execution, MPI_Comm comm, const Array<Number*>& source, std::vector<Slice> to,
           const Array<Number*>& target, std::vector<Slice> from);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange();

  /// A rank's slice, or all of them, starts on its way. The kernels that write it need not be done. All at once,
  /// neighbouring ranks may have the same slice.
  void send(int rank);
  void send();

  /// Lets MPI go on with what is under way; call now and then while computing.
  void progress();

  /// A rank's slice has arrived.
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
  std::vector<Slice> m_to, m_from;
  Array<Number*> m_source, m_target;
  MessageBuffer<Number> m_outgoing, m_incoming;
  std::vector<MPI_Request> m_receives, m_sends;
  std::vector<Slice> m_receives_from;  // by rank, of m_receives
  std::vector<bool> m_delivered;       // by rank
  std::int64_t m_bytes_sent = 0, m_messages_sent = 0;
};

/// Every rank's items to every rank, in place: `data` holds rows of `row` elements, those of rank p in slices[p] (in
/// rows), this rank's own filled in. The data must stay as they are until wait().
template <class Number>
class Gather {
 public:
  /// Returns at once.
  Gather(const Execution& execution, MPI_Comm comm, const Array<Number*>& data, std::int64_t row,
         const std::vector<Slice>& slices);
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
  Slice m_all;
  MessageBuffer<Number> m_buffer;
  std::vector<int> m_counts, m_offsets;
  MPI_Datatype m_row = MPI_DATATYPE_NULL;
  std::vector<MPI_Request> m_request;
  std::int64_t m_bytes_sent = 0;
};

}  // namespace bsbr::parallel
