#include "io/same_file.hpp"

#include <optional>

#include "bsbr/error.hpp"
#include "io/hdf5.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr::io {

void agree_on_file(const std::string& path, MPI_Comm comm, const std::function<void()>& work) {
  std::optional<FileError> failure;
  parallel::agree(comm, [&] {
    try {
      reading(path, work);
    } catch (const FileError& error) {
      failure = error;
    }
  });
  const int failed = parallel::all_reduce(failure ? 1 : 0, MPI_SUM, comm);
  parallel::agree(comm, [&] {
    if (!failure) return;
    if (failed == parallel::ranks_of(comm)) throw FileError(*failure);
    throw FileError(failure->what() + (", as rank " + std::to_string(parallel::rank_in(comm)) + " sees it"),
                    same_file_hint);
  });
}

}  // namespace bsbr::io
