#include "parallel/collectives.hpp"

#include <algorithm>

namespace bsbr::parallel {

void barrier(MPI_Comm comm) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibarrier(comm, &request), "MPI_Ibarrier");
  wait(comm, request, "MPI_Ibarrier");
}

void broadcast(void* data, std::int64_t bytes, MPI_Comm comm, int root) {
  constexpr std::int64_t piece = 1 << 30;
  auto* begin = static_cast<std::byte*>(data);
  for (std::int64_t done = 0; done < bytes; done += piece) {
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Ibcast(begin + done, static_cast<int>(std::min(piece, bytes - done)), MPI_BYTE, root, comm, &request), "MPI_Ibcast");
    wait(comm, request, "MPI_Ibcast");
  }
}

void broadcast(std::string& text, MPI_Comm comm, int root) {
  auto size = static_cast<std::int64_t>(text.size());
  broadcast(&size, sizeof size, comm, root);
  text.resize(static_cast<std::size_t>(size));
  broadcast(text.data(), size, comm, root);
}

std::vector<std::string> gather(const std::string& mine, MPI_Comm comm) {
  const auto sizes = all_gather(static_cast<std::int64_t>(mine.size()), comm);
  const std::vector<char> all = gather(mine.data(), sizes, comm);
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
