// Buffers as MPI is given them, and ranges of them that are messages.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "bsbr/partition.hpp"
#include "bsbr/types.hpp"
#include "parallel/staging.hpp"

namespace bsbr::parallel {

/// A contiguous range of a buffer that goes to, or comes from, one rank. In elements, not bytes.
struct Slice {
  std::int64_t offset = 0, count = 0;

  bool operator==(const Slice&) const = default;
};

/// The elements of a slice.
template <class Data>
auto range_of(const Data& data, const Slice& slice) {
  return Kokkos::subview(data, std::make_pair(slice.offset, slice.offset + slice.count));
}

/// Elements of one message: below MPI's int counts, in bytes too.
inline constexpr std::int64_t most_elements = 1 << 27;

/// Calls function(offset, count) for each message of a slice: so many elements as MPI can count.
template <class Function>
void for_each_message(const Slice& slice, Function&& function) {
  for (std::int64_t done = 0; done < slice.count; done += most_elements)
    function(slice.offset + done, static_cast<int>(std::min(most_elements, slice.count - done)));
}

/// A slice for each part of a partition whose items have that many elements each.
std::vector<Slice> slices_of(const Partition& partition, std::int64_t elements = 1);

/// A buffer as MPI is given it: the View's own memory, or a copy on the host where MPI does not take that.
template <class Number>
class MessageBuffer {
 public:
  explicit MessageBuffer(const Array<Number*>& data);

  Number* at(std::int64_t offset) const {
    return m_staged != nullptr ? m_host.data() + offset : m_data.data() + offset;
  }

  /// Before a slice is sent, and after one has come: in the order of `execution`, which the caller fences, once for
  /// several slices.
  void prepare(const Execution& execution, const Slice& slice) const;
  void deliver(const Execution& execution, const Slice& slice) const;

  /// Neither memory is ever given back: MPI may still be using it.
  void keep_for_ever() const;

 private:
  Array<Number*> m_data;
  std::shared_ptr<const StagingBuffer> m_staged;  // null where MPI takes m_data itself
  Kokkos::View<Number*, Kokkos::LayoutRight, StagingSpace, Kokkos::MemoryUnmanaged> m_host;  // of m_staged
};

}  // namespace bsbr::parallel
