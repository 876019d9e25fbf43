// The sizes of the backend that this is compiled for.
#pragma once

#include <type_traits>

#include "kernels/backend.hpp"
#include "kernels/sizes.hpp"

namespace bsbr::kernels {

/// Named as a namespace, since it is used like one: tuning::key_tile.
using tuning = std::conditional_t<
    on_host, HostSizes,
    std::conditional_t<device_bodies_on_host, DeviceBodiesSizes, std::conditional_t<on_cuda, CudaSizes, HipSizes>>>;

/// Of the bodies that a GPU runs. On a host they are compiled, too, but nothing calls them.
using gpu_tuning = std::conditional_t<on_host, GpuSizes, tuning>;

}  // namespace bsbr::kernels
