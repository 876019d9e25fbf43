// Which backend the kernels run on. All that is decided for a host or for a GPU when it is compiled asks here, and the
// questions differ:
//
//                                                         on_host   on_host_threads   host_memory
//     OpenMP, C++ threads, one thread                       yes           yes             yes
//     the same, with the bodies of a GPU (for tests)        no            yes             yes
//     CUDA, HIP                                             no            no              no
//     CUDA, HIP with memory that host and device share      no            no              yes
#pragma once

#include <type_traits>

#include "bsbr/types.hpp"

namespace bsbr::kernels {

/// The host reads and writes the arrays of kernels itself: they need no copy, and are part of its memory.
inline constexpr bool host_memory = Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible;

/// Threads of the host run the kernels, whichever bodies they have; their scratch is the host's memory.
inline constexpr bool on_host_threads = std::is_same_v<Execution, Kokkos::DefaultHostExecutionSpace>;

/// A build for tests: threads of a host run what a GPU runs (the preset `device-bodies`).
#ifdef BSBR_DEVICE_BODIES
inline constexpr bool device_bodies_on_host = true;
static_assert(on_host_threads, "BSBR_DEVICE_BODIES is for a Kokkos whose default execution space is a host's");
#else
inline constexpr bool device_bodies_on_host = false;
#endif

/// Kernels have the bodies of a host: a team is one thread whose inner loops vectorise. Otherwise those of a GPU, whose
/// teams have many threads.
inline constexpr bool on_host = on_host_threads && !device_bodies_on_host;

/// Kernels run on an NVIDIA GPU.
#ifdef KOKKOS_ENABLE_CUDA
inline constexpr bool on_cuda = std::is_same_v<Execution, Kokkos::Cuda>;
#else
inline constexpr bool on_cuda = false;
#endif

}  // namespace bsbr::kernels
