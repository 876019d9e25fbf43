#include "parallel/message_buffer.hpp"

#include "parallel/device_buffers.hpp"

namespace bsbr::parallel {

std::vector<Slice> slices_of(const Partition& partition, std::int64_t elements) {
  std::vector<Slice> slices;
  for (int part = 0; part < partition.parts; ++part)
    slices.push_back({partition.begin(part) * elements, partition.size(part) * elements});
  return slices;
}

template <class Number>
MessageBuffer<Number>::MessageBuffer(const Array<Number*>& data) : m_data(data) {
  if (mpi_takes_device_buffers()) return;
  m_staged = take_staging_buffer(static_cast<std::int64_t>(data.size() * sizeof(Number)));
  m_host = decltype(m_host)(reinterpret_cast<Number*>(m_staged->data()), data.size());
}

template <class Number>
void MessageBuffer<Number>::prepare(const Execution& execution, const Slice& slice) const {
  if (m_staged != nullptr && slice.count > 0)
    Kokkos::deep_copy(execution, range_of(m_host, slice), range_of(m_data, slice));
}

template <class Number>
void MessageBuffer<Number>::deliver(const Execution& execution, const Slice& slice) const {
  if (m_staged != nullptr && slice.count > 0)
    Kokkos::deep_copy(execution, range_of(m_data, slice), range_of(m_host, slice));
}

template <class Number>
void MessageBuffer<Number>::keep_for_ever() const {
  new auto(*this);
}

template class MessageBuffer<float>;
template class MessageBuffer<double>;
template class MessageBuffer<std::uint8_t>;

}  // namespace bsbr::parallel
