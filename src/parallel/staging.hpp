// Memory of the host for messages that MPI cannot take from a GPU: pinned, so that copies run at full speed, and kept
// for later messages.
#pragma once

#include <cstdint>
#include <memory>

#include "bsbr/types.hpp"

namespace bsbr::parallel {

#ifdef KOKKOS_HAS_SHARED_HOST_PINNED_SPACE
using StagingSpace = Kokkos::SharedHostPinnedSpace;
#else
using StagingSpace = Kokkos::HostSpace;
#endif

using StagingBuffer = Kokkos::View<char*, Kokkos::LayoutRight, StagingSpace>;

/// At least `bytes` bytes. When the last copy of the pointer is gone, the buffer is free for the next call;
/// Kokkos::finalize() returns all free buffers to the system. Throws what Kokkos throws where there is no memory.
std::shared_ptr<const StagingBuffer> take_staging_buffer(std::int64_t bytes);

}  // namespace bsbr::parallel
