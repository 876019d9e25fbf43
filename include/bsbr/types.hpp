// The Kokkos types of the library's interfaces.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

namespace bsbr {

/// The library is compiled for Kokkos' default execution space: CUDA, HIP, OpenMP or Serial, as Kokkos was built.
using Execution = Kokkos::DefaultExecutionSpace;
/// The memory of `Execution`.
using Memory = Execution::memory_space;
/// Execution space and memory space of the library's arrays.
using Device = Kokkos::Device<Execution, Memory>;

/// A dense array in the memory of `Execution`, last index fastest: Array<float***>.
template <class Data>
using Array = Kokkos::View<Data, Kokkos::LayoutRight, Device>;

/// An array with gaps between its rows, such as the query columns of a buffer of queries, keys and values; the last
/// index has stride 1.
template <class Data>
using Strided = Kokkos::View<Data, Kokkos::LayoutStride, Device>;

/// A dense array in the host's memory, last index fastest.
template <class Data>
using HostArray = Kokkos::View<Data, Kokkos::LayoutRight, Kokkos::HostSpace>;

/// Checks that Kokkos is initialised. Every entry point of the library calls it.
/// \throws Error if it is not
void require_kokkos();

}  // namespace bsbr
