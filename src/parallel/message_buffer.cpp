#include "parallel/message_buffer.hpp"

#include <utility>

#include "parallel/device_buffers.hpp"

namespace bsbr::parallel {
namespace {

template <class Data>
auto range_of(const Data& data, const Segment& segment) {
  return Kokkos::subview(data, std::make_pair(segment.offset, segment.offset + segment.count));
}

}  // namespace

std::vector<Segment> segments_of(const Partition& partition, std::int64_t elements) {
  std::vector<Segment> segments;
  for (int part = 0; part < partition.parts; ++part)
    segments.push_back({partition.begin(part) * elements, partition.size(part) * elements});
  return segments;
}

template <class Number>
MessageBuffer<Number>::MessageBuffer(const Array<Number*>& data) : m_data(data) {
  if (mpi_takes_device_buffers()) return;
  m_staged = take_staging_buffer(static_cast<std::int64_t>(data.size() * sizeof(Number)));
  m_host = decltype(m_host)(reinterpret_cast<Number*>(m_staged->data()), data.size());
}

template <class Number>
void MessageBuffer<Number>::prepare(const Execution& execution, const Segment& segment) const {
  if (m_staged != nullptr && segment.count > 0)
    Kokkos::deep_copy(execution, range_of(m_host, segment), range_of(m_data, segment));
}

template <class Number>
void MessageBuffer<Number>::deliver(const Execution& execution, const Segment& segment) const {
  if (m_staged != nullptr && segment.count > 0)
    Kokkos::deep_copy(execution, range_of(m_data, segment), range_of(m_host, segment));
}

template <class Number>
void MessageBuffer<Number>::keep_for_ever() const {
  new auto(*this);
}

template class MessageBuffer<float>;
template class MessageBuffer<double>;
template class MessageBuffer<std::uint8_t>;

}  // namespace bsbr::parallel
