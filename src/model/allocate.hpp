// Arrays of a model's passes: those that memory may be too small for.
#pragma once

#include <exception>
#include <string>

#include "bsbr/error.hpp"
#include "bsbr/types.hpp"

namespace bsbr {

/// An array of the name bsbr::<label>, whose elements are not set.
/// \throws MemoryError with the array's extents
template <class Data, class... Extents>
Array<Data> allocate(const std::string& label, Extents... extents) {
  try {
    return Array<Data>(Kokkos::view_alloc("bsbr::" + label, Kokkos::WithoutInitializing), extents...);
  } catch (const std::exception& error) {
    std::string shape;
    ((shape += (shape.empty() ? "" : ", ") + std::to_string(extents)), ...);
    throw MemoryError("no memory for " + label + " [" + shape + "]: " + error.what());
  }
}

}  // namespace bsbr
