// Messages between pairs of ranks, several at a time.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bsbr/types.hpp"
#include "parallel/message_buffer.hpp"

namespace bsbr::parallel {

/// Messages of this rank to and from others. The same data are received as were sent: as many elements, with the same
/// tag. Tags are the callers', 0 to 4095 but the one of Exchange.
template <class Number>
class Messages {
 public:
  Messages(const Execution& execution, MPI_Comm comm) : m_execution(execution), m_comm(comm) {}
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;
  ~Messages();

  /// Receives from now on; `target` is left alone until wait_for() the number that is returned.
  std::size_t receive(int rank, int tag, const Array<Number*>& target);

  /// `source` stays as it is until wait(). The kernels that write it need not be done.
  void send(int rank, int tag, const Array<Number*>& source);

  /// Lets MPI go on with what is under way; call now and then while computing.
  void progress();

  /// What receive() numbered has arrived. Throws CommunicationError, as all of these.
  void wait_for(std::size_t received);

  /// Everything has gone and arrived.
  void wait();

  /// What has gone to other ranks, and in how many messages.
  std::int64_t bytes_sent() const { return m_bytes_sent; }
  std::int64_t messages_sent() const { return m_messages_sent; }

 private:
  struct Message {
    MessageBuffer<Number> buffer;
    Slice all;
    std::vector<MPI_Request> requests;  // split where MPI's counts end
    bool delivered = false;
  };

  Execution m_execution;
  MPI_Comm m_comm;
  std::vector<std::unique_ptr<Message>> m_received, m_sent;
  std::int64_t m_bytes_sent = 0, m_messages_sent = 0;
};

/// `data` of the rank `root` on all ranks. Collective.
template <class Number>
void broadcast(const Execution& execution, MPI_Comm comm, int root, const Array<Number*>& data);

}  // namespace bsbr::parallel
