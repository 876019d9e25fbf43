// The collective operations of bsbr/parallel.hpp, and what only the library needs. They wait as wait.hpp does. What MPI
// works on is memory of their own, which is not freed if an operation is given up.
#pragma once

#include <mpi.h>

#include <memory>
#include <utility>
#include <vector>

#include "bsbr/parallel.hpp"
#include "parallel/mpi.hpp"
#include "parallel/wait.hpp"

namespace bsbr::parallel {

/// `numbers` of all ranks, combined by `operation` (of whole numbers, or a minimum or maximum: sums of others would
/// depend on the ranks).
template <class Number>
std::vector<Number> all_reduce(std::vector<Number> numbers, MPI_Op operation, MPI_Comm comm) {
  auto buffer = std::make_unique<std::vector<Number>>(std::move(numbers));
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallreduce(MPI_IN_PLACE, buffer->data(), static_cast<int>(buffer->size()), mpi_type<Number>(), operation,
                       comm, &request),
        "MPI_Iallreduce");
  wait(comm, request, "MPI_Iallreduce", buffer);
  return std::move(*buffer);
}

}  // namespace bsbr::parallel
