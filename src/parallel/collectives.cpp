#include "parallel/collectives.hpp"

#include <algorithm>
#include <cstddef>

namespace bsbr::parallel {

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
