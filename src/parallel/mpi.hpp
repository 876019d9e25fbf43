// What calls of MPI need: that it is initialised, errors as exceptions (bsbr/parallel.hpp), its names for our types.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <type_traits>

#include "bsbr/parallel.hpp"

namespace bsbr::parallel {

/// Throws CommunicationError unless MPI is initialised and not finalised.
void require_mpi();

/// A duplicate that is freed with its last owner, unless MPI has been finalised by then. Collective.
std::shared_ptr<MPI_Comm> duplicate(MPI_Comm comm);

/// The ranks with the same `colour`, in their order, with the time limit of `comm`; freed likewise. Collective.
std::shared_ptr<MPI_Comm> split(MPI_Comm comm, int colour);

/// Whether both are the same communicator, not only of the same ranks.
bool same_comm(MPI_Comm a, MPI_Comm b);

template <class Number>
MPI_Datatype mpi_type() {
  if constexpr (std::is_same_v<Number, float>)
    return MPI_FLOAT;
  else if constexpr (std::is_same_v<Number, double>)
    return MPI_DOUBLE;
  else if constexpr (std::is_same_v<Number, std::int32_t>)
    return MPI_INT32_T;
  else if constexpr (std::is_same_v<Number, std::int64_t>)
    return MPI_INT64_T;
  else {
    static_assert(std::is_same_v<Number, std::uint8_t>);
    return MPI_UINT8_T;
  }
}

}  // namespace bsbr::parallel
