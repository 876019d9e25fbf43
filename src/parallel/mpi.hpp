// MPI's calls with errors as exceptions, and its names for our types.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <type_traits>

namespace bsbr::parallel {

/// Throws CommunicationError with MPI's own text unless `code` is MPI_SUCCESS. `call`: what was called, "MPI_Bcast".
void check(int code, const char* call);

/// Throws CommunicationError unless MPI is initialised and not finalised.
void require_mpi();

/// Both with require_mpi().
int rank_in(MPI_Comm comm);
int ranks_of(MPI_Comm comm);

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
