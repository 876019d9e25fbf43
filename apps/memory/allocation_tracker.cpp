// Allocations of this process, counted as Kokkos tells of them.
#include "memory/allocation_tracker.hpp"

#include <algorithm>
#include <mutex>
#include <string_view>

namespace bsbr::apps {
namespace {

namespace tools = Kokkos::Tools::Experimental;

// Kokkos' callbacks are plain functions: what they count is here.
std::mutex access;
std::int64_t live = 0, peak = 0;

void count(const char* label, std::int64_t bytes) {
  if (!std::string_view(label).starts_with("bsbr::")) return;
  const std::lock_guard lock(access);
  live += bytes;
  peak = std::max(peak, live);
}

void allocated(Kokkos::Tools::SpaceHandle, const char* label, const void*, std::uint64_t bytes) {
  count(label, static_cast<std::int64_t>(bytes));
}

void deallocated(Kokkos::Tools::SpaceHandle, const char* label, const void*, std::uint64_t bytes) {
  count(label, -static_cast<std::int64_t>(bytes));
}

}  // namespace

AllocationTracker::AllocationTracker() : m_before(tools::get_callbacks()) {
  live = peak = 0;
  tools::set_allocate_data_callback(&allocated);
  tools::set_deallocate_data_callback(&deallocated);
}

AllocationTracker::~AllocationTracker() { tools::set_callbacks(m_before); }

std::int64_t AllocationTracker::peak_bytes() const {
  const std::lock_guard lock(access);
  return peak;
}

}  // namespace bsbr::apps
