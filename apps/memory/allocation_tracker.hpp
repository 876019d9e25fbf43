// How much memory the library has allocated at most while something runs, through the callbacks of Kokkos Tools.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

namespace bsbr::apps {

/// Follows the library's allocations in this process, those labelled "bsbr::…", from its construction on. Kokkos' own
/// scratch is left out: it is kept from one kernel to the next, and would count for whoever comes first. Other tools
/// hear nothing of allocations meanwhile. One at a time.
class AllocationTracker {
 public:
  AllocationTracker();
  ~AllocationTracker();
  AllocationTracker(const AllocationTracker&) = delete;
  AllocationTracker& operator=(const AllocationTracker&) = delete;

  /// The most that was allocated at any one time, beyond what was there at the beginning: bytes.
  std::int64_t peak_bytes() const;

 private:
  Kokkos::Tools::Experimental::EventSet m_before;
};

}  // namespace bsbr::apps
