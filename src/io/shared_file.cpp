#include "io/shared_file.hpp"

#include <fcntl.h>

#include <optional>

#include "bsbr/parallel.hpp"
#include "io/text.hpp"
#include "io/unfinished.hpp"

namespace bsbr::io {
namespace {

/// What the ranks must know of the file that rank 0 has made.
struct Made {
  std::int64_t places = 0, bytes = 0, identity = 0;  // how many places; of the whole file
};

Made make(OutputFile& output, const SharedFile& file, Places& places) {
  Handle handle = output.open();
  places = file.lay_out(handle, output);
  output.close(handle);
  const std::int64_t bytes = Descriptor(output.part(), O_RDONLY, "cannot be written").size();
  return {static_cast<std::int64_t>(places.size()), bytes, output.identity()};
}

/// This rank's elements. Not collective.
void fill(const std::string& part, MPI_Comm comm, const Made& made, const SharedFile& file, const Places& places) {
  const bool is_one_of_many = parallel::ranks_of(comm) > 1;
  const std::string doing =
      "cannot be written" + (is_one_of_many ? " by rank " + std::to_string(parallel::rank_in(comm)) : "");
  Descriptor descriptor(part, O_WRONLY, doing);
  if (descriptor.size() != made.bytes || descriptor.identity() != made.identity) {
    throw ContentError(doing + ", which sees another file under the name " + printable(part),
                       "the folder must be one that all nodes share, and one run at a time can write a file");
  }
  file.fill(descriptor, places);
  descriptor.sync();
  descriptor.close();
}

void finish(OutputFile& output, const SharedFile& file) {
  if (file.finish) {
    Handle handle = output.open();
    file.finish(handle);
    output.close(handle);
  }
  output.commit();
}

}  // namespace

std::int64_t place_of(hid_t dataset) { return static_cast<std::int64_t>(H5Dget_offset(dataset)); }

void write_shared(const std::string& path, MPI_Comm comm, const SharedFile& file) {
  Kokkos::fence();  // whoever computes the elements may not be done
  std::optional<OutputFile> output;
  Made made;
  Places places;
  parallel::agree(comm, [&] {
    if (parallel::rank_in(comm) != 0) return;
    writing(path, [&] {
      output.emplace(path, file.datasets, file.bytes);
      made = make(*output, file, places);
    });
  });
  parallel::broadcast(&made, sizeof made, comm);
  places.resize(static_cast<std::size_t>(made.places));
  parallel::broadcast(places.data(), made.places * static_cast<std::int64_t>(sizeof(std::int64_t)), comm);
  std::string part = output ? output->part() : "";
  parallel::broadcast(part, comm);
  // Of the other ranks: one that was stopped cannot finish what they have given up.
  std::optional<UnfinishedFile> unfinished;
  if (!output) unfinished.emplace(part, made.identity);
  parallel::agree(comm, [&] { writing(path, [&] { fill(part, comm, made, file, places); }); });
  parallel::agree(comm, [&] {
    if (output) writing(path, [&] { finish(*output, file); });
  });
}

}  // namespace bsbr::io
