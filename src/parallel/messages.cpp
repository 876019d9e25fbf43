#include "parallel/messages.hpp"

#include "parallel/mpi.hpp"
#include "parallel/wait.hpp"

namespace bsbr::parallel {

template <class Number>
std::size_t Messages<Number>::receive(int rank, int tag, const Array<Number*>& target) {
  m_execution.fence();  // kernels that read the target before
  auto& message = *m_received.emplace_back(std::make_unique<Message>(
      Message{MessageBuffer<Number>(target), {0, static_cast<std::int64_t>(target.size())}, {}, false}));
  for_each_message(message.all, [&](std::int64_t offset, int count) {
    MPI_Request& request = message.requests.emplace_back(MPI_REQUEST_NULL);
    check(MPI_Irecv(message.buffer.at(offset), count, mpi_type<Number>(), rank, tag, m_comm, &request), "MPI_Irecv");
  });
  return m_received.size() - 1;
}

template <class Number>
void Messages<Number>::send(int rank, int tag, const Array<Number*>& source) {
  auto& message = *m_sent.emplace_back(std::make_unique<Message>(
      Message{MessageBuffer<Number>(source), {0, static_cast<std::int64_t>(source.size())}, {}, true}));
  message.buffer.prepare(m_execution, message.all);
  m_execution.fence();
  for_each_message(message.all, [&](std::int64_t offset, int count) {
    MPI_Request& request = message.requests.emplace_back(MPI_REQUEST_NULL);
    check(MPI_Isend(message.buffer.at(offset), count, mpi_type<Number>(), rank, tag, m_comm, &request), "MPI_Isend");
    m_bytes_sent += count * static_cast<std::int64_t>(sizeof(Number));
    ++m_messages_sent;
  });
}

template <class Number>
void Messages<Number>::progress() {
  int done = 0;
  for (const auto* messages : {&m_received, &m_sent}) {
    for (const auto& message : *messages) {
      check(
          MPI_Testall(static_cast<int>(message->requests.size()), message->requests.data(), &done, MPI_STATUSES_IGNORE),
          "MPI_Testall");
    }
  }
}

template <class Number>
void Messages<Number>::wait_for(std::size_t received) {
  Message& message = *m_received[received];
  if (message.delivered) return;
  parallel::wait(m_comm, message.requests, "MPI_Irecv");
  message.buffer.deliver(m_execution, message.all);
  m_execution.fence();
  message.delivered = true;
}

template <class Number>
void Messages<Number>::wait() {
  for (std::size_t i = 0; i < m_received.size(); ++i) wait_for(i);
  for (const auto& message : m_sent) parallel::wait(m_comm, message->requests, "MPI_Isend");
}

/// Buffers must outlive their messages, also when an exception passes.
template <class Number>
Messages<Number>::~Messages() {
  for (const auto* messages : {&m_received, &m_sent}) {
    for (const auto& message : *messages) {
      if (!settle(message->requests)) message->buffer.keep_for_ever();
    }
  }
}

template <class Number>
void broadcast(const Execution& execution, MPI_Comm comm, int root, const Array<Number*>& data) {
  const Slice all{0, static_cast<std::int64_t>(data.size())};
  auto buffer = std::make_unique<MessageBuffer<Number>>(data);
  buffer->prepare(execution, all);
  execution.fence();
  for_each_message(all, [&](std::int64_t offset, int count) {
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Ibcast(buffer->at(offset), count, mpi_type<Number>(), root, comm, &request), "MPI_Ibcast");
    wait(comm, request, "MPI_Ibcast", buffer);
  });
  buffer->deliver(execution, all);
  execution.fence();
}

template class Messages<float>;
template class Messages<double>;
template void broadcast(const Execution&, MPI_Comm, int, const Array<float*>&);
template void broadcast(const Execution&, MPI_Comm, int, const Array<double*>&);

}  // namespace bsbr::parallel
