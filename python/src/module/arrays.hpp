// NumPy arrays as Views, and Views as NumPy arrays. Arrays arrive as the library takes them: bsbr_hpc/_arrays.py
// prepares them.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <cstddef>
#include <optional>

#include "bsbr/types.hpp"

namespace bsbr::python {

namespace nb = nanobind;

template <class Value>
using Rows = nb::ndarray<const Value, nb::ndim<2>, nb::c_contig, nb::device::cpu>;  // [batch, local tokens]

/// The same memory as a View, or a copy of it in the device's memory.
template <class Value>
Array<const Value**> view_of(const Rows<Value>& rows) {
  return Kokkos::create_mirror_view_and_copy(Memory(),
                                             HostArray<const Value**>(rows.data(), rows.shape(0), rows.shape(1)));
}

template <class Value>
std::optional<Array<const Value**>> view_of(const std::optional<Rows<Value>>& rows) {
  return rows ? std::optional(view_of(*rows)) : std::nullopt;
}

/// What NumPy arrays keep of a View on whose memory they are.
template <class View>
nb::capsule owner_of(const View& view) {
  return {new View(view), [](void* kept) noexcept { delete static_cast<View*>(kept); }};
}

/// The same memory as a NumPy array, or a copy of it in the host's memory.
template <class View>
nb::object numpy_of(const View& array) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), array);
  std::array<std::size_t, View::rank> shape{};
  for (std::size_t i = 0; i < shape.size(); ++i) shape[i] = host.extent(i);
  return nb::cast(
      nb::ndarray<nb::numpy, typename View::value_type>(host.data(), shape.size(), shape.data(), owner_of(host)));
}

}  // namespace bsbr::python
