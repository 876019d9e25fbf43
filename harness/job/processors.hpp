// The processors that this process may run on, as Linux reports them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace bsbr::harness {

/// A set of processors, one bit each, as the system represents it.
struct ProcessorMask {
  static constexpr std::size_t most = 8192;
  std::array<std::uint64_t, most / 64> words{};

  bool operator==(const ProcessorMask&) const = default;
  std::vector<int> numbers() const;  ///< ascending
};

/// Of the calling thread; empty if the system does not report them.
ProcessorMask allowed_processors();

/// Of all threads that Kokkos runs on the host, together: OMP_PROC_BIND binds each of them. Kokkos must be initialised.
ProcessorMask processors_of_threads();

/// All that the system lets this process have, whatever it is bound to: the node's, or those of the job where there are
/// cgroups.
ProcessorMask obtainable_processors();

}  // namespace bsbr::harness
