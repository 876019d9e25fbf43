// Collective operations for programs with several ranks, above all agreement on errors: what the library itself uses,
// and bsbr_forward too.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

/// Collective operations: all ranks of `comm` call the same ones in the same order. Each waits for the other ranks as
/// long as bsbr::set_timeout allows, and throws CommunicationError if MPI is not initialised or fails, or if a rank
/// does not respond in time.
namespace bsbr::parallel {

/// Runs `work` on every rank. If it throws on any, rethrows the error of the lowest failing rank on all ranks, so that
/// none waits for a rank that has given up. Type, text and hint are unchanged, but that MemoryError and errors that are
/// not a bsbr::Error also name the rank; of a class derived from one of bsbr/error.hpp the base is thrown.
///
/// Collective, but `work` must not communicate: a rank on which it throws would leave the others waiting.
/// \param comm the ranks that agree
/// \param work what may throw; called once
/// \throws Error the error of the lowest failing rank; std::bad_alloc becomes MemoryError
/// \throws std::runtime_error if that error is not a bsbr::Error
void agree(MPI_Comm comm, const std::function<void()>& work);

/// Rank of this process. Not collective.
int rank_in(MPI_Comm comm);

/// Number of ranks. Not collective.
int ranks_of(MPI_Comm comm);

/// Returns when all ranks have called it.
void barrier(MPI_Comm comm);

/// Any number of bytes of rank `root` for all, in `data` on every rank. All ranks pass the same number.
void broadcast(void* data, std::int64_t bytes, MPI_Comm comm, int root = 0);

/// A text of rank `root` for all; the others need not know its length.
void broadcast(std::string& text, MPI_Comm comm, int root = 0);

/// `number` of all ranks, combined by `operation`, on all ranks: of std::int32_t, std::int64_t, std::uint8_t, float and
/// double. Floating-point numbers only by MPI_MIN and MPI_MAX: the order in which MPI adds them, and so their sum,
/// depends on the number of ranks.
template <class Number>
Number all_reduce(Number number, MPI_Op operation, MPI_Comm comm);

/// So many bytes of every rank, on all ranks: `all` is [ranks, bytes]. All ranks pass the same number.
/// \throws ShapeError if it is negative or too large for MPI, which counts to 2³¹ − 1
void all_gather(const void* mine, std::int64_t bytes, void* all, MPI_Comm comm);

/// Every rank's item, on all ranks, in their order.
template <class Item>
std::vector<Item> all_gather(const Item& mine, MPI_Comm comm) {
  static_assert(std::is_trivially_copyable_v<Item>, "items are sent as the bytes that they are");
  std::vector<Item> all(static_cast<std::size_t>(ranks_of(comm)));
  all_gather(&mine, sizeof(Item), all.data(), comm);
  return all;
}

/// Items of all ranks, one rank's after another, in `all` on rank 0; on the others `all` is not used.
/// \param mine this rank's items
/// \param item_bytes size of an item; the same on all ranks
/// \param counts how many items each rank has, [ranks]; the same on all ranks
/// \param all room for the items of all ranks, on rank 0
/// \param comm the ranks
/// \throws ShapeError if a count is negative or all together are too many for MPI, which counts to 2³¹ − 1
void gather_on_first(const void* mine, std::int64_t item_bytes, const std::vector<std::int64_t>& counts, void* all,
                     MPI_Comm comm);

/// The same, on rank 0 as a vector; none on the others.
template <class Item>
std::vector<Item> gather_on_first(const Item* mine, const std::vector<std::int64_t>& counts, MPI_Comm comm) {
  static_assert(std::is_trivially_copyable_v<Item>, "items are sent as the bytes that they are");
  std::vector<Item> all;
  if (rank_in(comm) == 0)
    all.resize(static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
  gather_on_first(mine, sizeof(Item), counts, all.data(), comm);
  return all;
}

/// Texts of all ranks, in their order, on rank 0; none on the others.
std::vector<std::string> gather_on_first(const std::string& mine, MPI_Comm comm);

/// The ranks of `comm` that run on the node of this one, with the time limit of `comm`. The caller frees it.
MPI_Comm split_by_node(MPI_Comm comm);

/// Turns what a function of MPI returns into an exception. Not collective.
/// \param code what it returned
/// \param call its name, "MPI_Comm_free"
/// \throws CommunicationError with MPI's own text, unless `code` is MPI_SUCCESS
void check(int code, const char* call);

}  // namespace bsbr::parallel
