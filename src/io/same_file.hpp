// Files that each rank opens by itself: they must be the same for all.
#pragma once

#include <mpi.h>

#include <functional>
#include <string>

namespace bsbr::io {

inline constexpr const char* same_file_hint =
    "every rank reads the file by itself: it must be in a folder that all nodes share";

/// parallel::agree for what each rank does with such a file: an error that some of them have only says whose it is.
/// Throws FileError on all ranks.
void agree_on_file(const std::string& path, MPI_Comm comm, const std::function<void()>& work);

}  // namespace bsbr::io
