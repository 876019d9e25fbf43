// Memory of this process and what it can still get.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>

namespace bsbr::harness {

std::int64_t resident_bytes();       ///< VmRSS
std::int64_t peak_resident_bytes();  ///< VmHWM

/// Gives freed memory back to the system and lets peak_resident_bytes() start again from what is resident now. False
/// where the system does not do that (no /proc/self/clear_refs): the peak then stays that of the process so far.
bool restart_peak_resident_bytes();

/// How much more this process may take: limits on its address space and data.
std::int64_t available_to_process();

/// How much more all processes of this machine (or container: cgroups count) may take together.
std::int64_t available_on_node();

/// Throws MemoryError on all ranks unless each can take `bytes` more: of its own limits, and together with the ranks on
/// its node of the node's memory. Collective. `hint`: what the user could do.
void require_memory(MPI_Comm comm, std::int64_t bytes, const std::string& hint);

/// Whether require_memory() would not throw. Collective; all ranks return the same.
bool has_memory(MPI_Comm comm, std::int64_t bytes);

}  // namespace bsbr::harness
