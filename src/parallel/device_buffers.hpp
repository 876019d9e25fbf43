// Whether MPI takes buffers in the memory of a device.
#pragma once

namespace bsbr::parallel {

/// Whether messages go straight from and into Views' memory; if not, they are staged through the host.
///
/// True where that is the host's memory. Of a device's: if MPI says that it can, and a buffer that is sent to this
/// process itself then arrives as it was; an MPI that cannot would crash over it, so one that does not say so is not
/// tried. The environment variable BSBR_GPU_AWARE_MPI=on or off decides instead. Found out once for each process; not
/// collective. Throws ConfigError for another value.
bool mpi_takes_device_buffers();

}  // namespace bsbr::parallel
