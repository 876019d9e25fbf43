// MPI's collective operations, as far as they are needed, waited for as wait.hpp does. What MPI works on is memory of their own, which is
// not freed if an operation is given up.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "parallel/mpi.hpp"
#include "parallel/wait.hpp"

namespace bsbr::parallel {

/// Returns when all ranks have called it.
void barrier(MPI_Comm comm);

/// `numbers` of all ranks, combined by `operation` (of whole numbers, or a minimum or maximum: sums of others would depend on the ranks).
template <class Number>
std::vector<Number> all_reduce(std::vector<Number> numbers, MPI_Op operation, MPI_Comm comm) {
  auto buffer = std::make_unique<std::vector<Number>>(std::move(numbers));
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallreduce(MPI_IN_PLACE, buffer->data(), static_cast<int>(buffer->size()), mpi_type<Number>(), operation, comm, &request),
        "MPI_Iallreduce");
  wait(comm, request, "MPI_Iallreduce", buffer);
  return std::move(*buffer);
}

template <class Number>
Number all_reduce(Number number, MPI_Op operation, MPI_Comm comm) {
  return all_reduce(std::vector<Number>{number}, operation, comm).front();
}

/// Any number of bytes of one rank for all.
void broadcast(void* data, std::int64_t bytes, MPI_Comm comm, int root = 0);

/// A string of one rank for all; the others need not know its length.
void broadcast(std::string& text, MPI_Comm comm, int root = 0);

/// Every rank's item, on all ranks.
template <class Item>
std::vector<Item> all_gather(const Item& mine, MPI_Comm comm) {
  static_assert(std::is_trivially_copyable_v<Item>);
  auto all = std::make_unique<std::vector<Item>>(static_cast<std::size_t>(ranks_of(comm)));
  (*all)[static_cast<std::size_t>(rank_in(comm))] = mine;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all->data(), sizeof(Item), MPI_BYTE, comm, &request), "MPI_Iallgather");
  wait(comm, request, "MPI_Iallgather", all);
  return std::move(*all);
}

/// Items of all ranks one after another, on rank 0; none on the others. `counts`: how many of each rank, known to all.
template <class Item>
std::vector<Item> gather_on_first(const Item* mine, const std::vector<std::int64_t>& counts, MPI_Comm comm) {
  static_assert(std::is_trivially_copyable_v<Item>);
  const int rank = rank_in(comm);
  struct Buffers {
    std::vector<Item> mine, all;
    std::vector<int> sizes, places;
    MPI_Datatype item = MPI_DATATYPE_NULL;
  };
  auto buffers = std::make_unique<Buffers>();
  buffers->mine.assign(mine, mine + counts[static_cast<std::size_t>(rank)]);
  buffers->sizes.assign(counts.begin(), counts.end());
  buffers->places.resize(counts.size());
  std::exclusive_scan(buffers->sizes.begin(), buffers->sizes.end(), buffers->places.begin(), 0);
  if (rank == 0) buffers->all.resize(static_cast<std::size_t>(buffers->places.back()) + static_cast<std::size_t>(buffers->sizes.back()));
  check(MPI_Type_contiguous(sizeof(Item), MPI_BYTE, &buffers->item), "MPI_Type_contiguous");
  check(MPI_Type_commit(&buffers->item), "MPI_Type_commit");
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Igatherv(buffers->mine.data(), buffers->sizes[static_cast<std::size_t>(rank)], buffers->item, buffers->all.data(),
                     buffers->sizes.data(), buffers->places.data(), buffers->item, 0, comm, &request),
        "MPI_Igatherv");
  wait(comm, request, "MPI_Igatherv", buffers);
  check(MPI_Type_free(&buffers->item), "MPI_Type_free");
  return std::move(buffers->all);
}

/// Texts of all ranks, in their order, on rank 0; none on the others.
std::vector<std::string> gather_on_first(const std::string& mine, MPI_Comm comm);

}  // namespace bsbr::parallel
