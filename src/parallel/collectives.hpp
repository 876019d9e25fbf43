// MPI's collective operations, as far as they are needed, waited for as wait.hpp does.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel/mpi.hpp"
#include "parallel/wait.hpp"

namespace bsbr::parallel {

/// Returns when all ranks have called it.
void barrier(MPI_Comm comm);

/// `numbers` of all ranks, combined by `operation` (of whole numbers, or a minimum or maximum: sums of others would depend on the ranks).
template <class Number>
void all_reduce(std::span<Number> numbers, MPI_Op operation, MPI_Comm comm) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallreduce(MPI_IN_PLACE, numbers.data(), static_cast<int>(numbers.size()), mpi_type<Number>(), operation, comm, &request),
        "MPI_Iallreduce");
  wait(comm, request, "MPI_Iallreduce");
}

template <class Number>
requires std::is_arithmetic_v<Number> Number all_reduce(Number number, MPI_Op operation, MPI_Comm comm) {
  all_reduce(std::span<Number>(&number, 1), operation, comm);
  return number;
}

/// Any number of bytes of one rank for all, in pieces that MPI's int counts can tell.
void broadcast(void* data, std::int64_t bytes, MPI_Comm comm, int root = 0);

/// A string of one rank for all; the others need not know its length.
void broadcast(std::string& text, MPI_Comm comm, int root = 0);

/// Every rank's item, on all ranks.
template <class Item>
std::vector<Item> all_gather(const Item& mine, MPI_Comm comm) {
  static_assert(std::is_trivially_copyable_v<Item>);
  std::vector<Item> all(static_cast<std::size_t>(ranks_of(comm)));
  constexpr int bytes = sizeof(Item);
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallgather(&mine, bytes, MPI_BYTE, all.data(), bytes, MPI_BYTE, comm, &request), "MPI_Iallgather");
  wait(comm, request, "MPI_Iallgather");
  return all;
}

/// Items of all ranks one after another, on rank 0; none on the others. `counts`: how many of each rank, known to all.
template <class Item>
std::vector<Item> gather(const Item* mine, const std::vector<std::int64_t>& counts, MPI_Comm comm) {
  static_assert(std::is_trivially_copyable_v<Item>);
  MPI_Datatype item = MPI_DATATYPE_NULL;
  check(MPI_Type_contiguous(sizeof(Item), MPI_BYTE, &item), "MPI_Type_contiguous");
  check(MPI_Type_commit(&item), "MPI_Type_commit");
  const std::vector<int> sizes(counts.begin(), counts.end());
  std::vector<int> places(sizes.size());
  std::exclusive_scan(sizes.begin(), sizes.end(), places.begin(), 0);
  const int rank = rank_in(comm);
  std::vector<Item> all(rank == 0 ? static_cast<std::size_t>(places.back() + sizes.back()) : 0);
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Igatherv(mine, sizes[static_cast<std::size_t>(rank)], item, all.data(), sizes.data(), places.data(), item, 0, comm, &request),
        "MPI_Igatherv");
  check(MPI_Type_free(&item), "MPI_Type_free");  // it lives on as long as the operation
  wait(comm, request, "MPI_Igatherv");
  return all;
}

/// Texts of all ranks, in their order, on rank 0; none on the others.
std::vector<std::string> gather(const std::string& mine, MPI_Comm comm);

}  // namespace bsbr::parallel
