// The Kokkos types that the library's interfaces share.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

namespace bsbr {

/// The library is compiled for Kokkos' default execution space: CUDA, HIP, OpenMP or Serial, as Kokkos was built.
using Execution = Kokkos::DefaultExecutionSpace;
/// Where arrays of `Execution` lie.
using Memory = Execution::memory_space;
/// Both.
using Device = Kokkos::Device<Execution, Memory>;

/// Dense arrays, last index fastest.
template <class Data>
using Array = Kokkos::View<Data, Kokkos::LayoutRight, Device>;

/// Arrays whose rows may lie apart, such as the query columns of a buffer that holds queries, keys and values; the last index has stride 1.
template <class Data>
using Strided = Kokkos::View<Data, Kokkos::LayoutStride, Device>;

/// Dense arrays on the host, last index fastest.
template <class Data>
using HostArray = Kokkos::View<Data, Kokkos::LayoutRight, Kokkos::HostSpace>;

/// Throws Error unless Kokkos is initialised: called wherever a user enters the library.
void require_kokkos();

}  // namespace bsbr
