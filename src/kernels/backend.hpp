// Which backend the kernels run on: everything that is decided for a host or for a GPU when it is compiled asks here.
#pragma once

#include <type_traits>

#include "bsbr/types.hpp"

namespace bsbr::kernels {

/// The host reads and writes the arrays of kernels itself.
inline constexpr bool host_memory = Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible;

/// A build for tests: threads of a host run what a GPU runs (the preset `device-bodies`).
#ifdef BSBR_DEVICE_BODIES
inline constexpr bool device_bodies_on_host = true;
static_assert(host_memory, "BSBR_DEVICE_BODIES is for a Kokkos whose default execution space is a host's");
#else
inline constexpr bool device_bodies_on_host = false;
#endif

/// Kernels run on the host's cores: a team is one thread whose inner loops vectorise. Otherwise on a GPU, where teams have many threads.
inline constexpr bool on_host = Kokkos::SpaceAccessibility<Execution, Kokkos::HostSpace>::accessible && !device_bodies_on_host;

/// Kernels run on an NVIDIA GPU.
#ifdef KOKKOS_ENABLE_CUDA
inline constexpr bool on_cuda = std::is_same_v<Execution, Kokkos::Cuda>;
#else
inline constexpr bool on_cuda = false;
#endif

}  // namespace bsbr::kernels
