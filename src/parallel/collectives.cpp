#include "parallel/collectives.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <string>

#include "bsbr/error.hpp"

namespace bsbr::parallel {
namespace {

/// As MPI counts. All ranks have the same number, so that all of them throw or none.
int as_count(std::int64_t number) {
  if (number < 0 || number > std::numeric_limits<int>::max()) {
    throw ShapeError(std::to_string(number) + " items in a collective operation, must be within 0 to 2147483647");
  }
  return static_cast<int>(number);
}

}  // namespace

void barrier(MPI_Comm comm) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibarrier(comm, &request), "MPI_Ibarrier");
  wait(comm, std::span(&request, 1), "MPI_Ibarrier");
}

void broadcast(void* data, std::int64_t bytes, MPI_Comm comm, int root) {
  constexpr std::int64_t most = 1 << 24;
  auto block = std::make_unique<std::vector<std::byte>>(static_cast<std::size_t>(std::min(most, bytes)));
  auto* begin = static_cast<std::byte*>(data);
  const bool gives = rank_in(comm) == root;
  for (std::int64_t done = 0; done < bytes; done += most) {
    const std::int64_t count = std::min(most, bytes - done);
    if (gives) std::copy_n(begin + done, count, block->begin());
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Ibcast(block->data(), static_cast<int>(count), MPI_BYTE, root, comm, &request), "MPI_Ibcast");
    wait(comm, request, "MPI_Ibcast", block);
    if (!gives) std::copy_n(block->begin(), count, begin + done);
  }
}

void broadcast(std::string& text, MPI_Comm comm, int root) {
  auto size = static_cast<std::int64_t>(text.size());
  broadcast(&size, sizeof size, comm, root);
  text.resize(static_cast<std::size_t>(size));
  broadcast(text.data(), size, comm, root);
}

template <class Number>
Number all_reduce(Number number, MPI_Op operation, MPI_Comm comm) {
  return all_reduce(std::vector<Number>{number}, operation, comm).front();
}

template std::int32_t all_reduce(std::int32_t, MPI_Op, MPI_Comm);
template std::int64_t all_reduce(std::int64_t, MPI_Op, MPI_Comm);
template std::uint8_t all_reduce(std::uint8_t, MPI_Op, MPI_Comm);
template float all_reduce(float, MPI_Op, MPI_Comm);
template double all_reduce(double, MPI_Op, MPI_Comm);

void all_gather(const void* mine, std::int64_t bytes, void* all, MPI_Comm comm) {
  const int count = as_count(bytes);
  const auto size = static_cast<std::size_t>(bytes);
  auto buffer = std::make_unique<std::vector<std::byte>>(size * static_cast<std::size_t>(ranks_of(comm)));
  std::copy_n(static_cast<const std::byte*>(mine), size,
              buffer->data() + size * static_cast<std::size_t>(rank_in(comm)));
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, buffer->data(), count, MPI_BYTE, comm, &request),
        "MPI_Iallgather");
  wait(comm, request, "MPI_Iallgather", buffer);
  std::copy(buffer->begin(), buffer->end(), static_cast<std::byte*>(all));
}

void gather_on_first(const void* mine, std::int64_t item_bytes, const std::vector<std::int64_t>& counts, void* all,
                     MPI_Comm comm) {
  struct Buffers {
    std::vector<std::byte> mine, all;
    std::vector<int> sizes, places;
    MPI_Datatype item = MPI_DATATYPE_NULL;
  };
  auto buffers = std::make_unique<Buffers>();
  std::int64_t total = 0;
  for (const std::int64_t count : counts) {
    buffers->sizes.push_back(as_count(count));
    buffers->places.push_back(as_count(total));
    total += count;
  }
  as_count(total);
  const int rank = rank_in(comm), own = buffers->sizes[static_cast<std::size_t>(rank)];
  const auto* begin = static_cast<const std::byte*>(mine);
  buffers->mine.assign(begin, begin + own * item_bytes);
  if (rank == 0) buffers->all.resize(static_cast<std::size_t>(total * item_bytes));
  check(MPI_Type_contiguous(as_count(item_bytes), MPI_BYTE, &buffers->item), "MPI_Type_contiguous");
  check(MPI_Type_commit(&buffers->item), "MPI_Type_commit");
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Igatherv(buffers->mine.data(), own, buffers->item, buffers->all.data(), buffers->sizes.data(),
                     buffers->places.data(), buffers->item, 0, comm, &request),
        "MPI_Igatherv");
  wait(comm, request, "MPI_Igatherv", buffers);
  check(MPI_Type_free(&buffers->item), "MPI_Type_free");
  std::copy(buffers->all.begin(), buffers->all.end(), static_cast<std::byte*>(all));
}

std::vector<std::string> gather_on_first(const std::string& mine, MPI_Comm comm) {
  const auto sizes = all_gather(static_cast<std::int64_t>(mine.size()), comm);
  const std::vector<char> all = gather_on_first(mine.data(), sizes, comm);
  std::vector<std::string> texts;
  if (rank_in(comm) != 0) return texts;
  auto begin = all.begin();
  for (const std::int64_t size : sizes) {
    texts.emplace_back(begin, begin + size);
    begin += size;
  }
  return texts;
}

}  // namespace bsbr::parallel
