// A file that rank 0 lays out with HDF5 and closes, and whose datasets all ranks fill, where HDF5 wants them.
//
// Elements are written with the system's own calls, not through HDF5 and MPI-IO: what a rank has is a few pieces of the
// file, so there is nothing that collective buffering could put together. In return an error stays where it is found,
// and no rank waits in a collective call for one that has given up; a full disk is told as such (Open MPI's ompio
// reports success from collective writes to one, or hangs); no H5Fclose can fail over it; and names with colons work
// (ROMIO takes what stands before one for a kind of file system).
#pragma once

#include <mpi.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bsbr/types.hpp"
#include "io/output_file.hpp"

namespace bsbr::io {

/// Where datasets lie in a file: the offset of each one's first element, in bytes.
using Places = std::vector<std::int64_t>;

/// What is done for such a file, and by whom.
struct SharedFile {
  std::int64_t datasets, bytes;                                ///< that there will be
  std::function<Places(hid_t file, OutputFile&)> lay_out;      ///< rank 0: everything but the elements
  std::function<void(const Descriptor&, const Places&)> fill;  ///< each rank: its elements
  std::function<void(hid_t file)> finish;                      ///< rank 0: what is written last; may be empty
};

/// Writes it: as `<path>.part`, which gets its name when it is complete; if anything fails, nothing is left.
/// Collective. Throws OutputError on all ranks if it cannot be written, ContentError that `lay_out` throws included.
void write_shared(const std::string& path, MPI_Comm comm, const SharedFile& file);

/// The place of a dataset that create_dataset() has made.
std::int64_t place_of(hid_t dataset);

template <class Real>
using Elements = Kokkos::View<const Real*, Kokkos::LayoutRight, Device, Kokkos::MemoryUnmanaged>;

/// Writes `count` numbers of a view, which may be on a device: those pass through a buffer.
template <class Real>
void write_elements(const Descriptor& file, std::int64_t place, const Elements<Real>& elements, std::int64_t begin,
                    std::int64_t count) {
  constexpr std::int64_t number = sizeof(Real), most = (std::int64_t{1} << 26) / number;
  for (std::int64_t done = 0; done < count; done += most) {
    const std::int64_t now = std::min(most, count - done);
    const Elements<Real> part(elements.data() + begin + done, static_cast<std::size_t>(now));
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), part);
    file.write(place + done * number, host.data(), now * number);
  }
}

}  // namespace bsbr::io
