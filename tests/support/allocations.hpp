// What Kokkos allocates while a test looks on, through the callbacks of Kokkos Tools.
#pragma once

#include <gtest/gtest.h>

#include <Kokkos_Core.hpp>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "bsbr/types.hpp"

namespace bsbr::testing {

struct Allocation {
  std::string label;
  std::int64_t bytes;
};

/// Records the allocations of this process from its construction on. One at a time.
class AllocationRecorder {
 public:
  AllocationRecorder() {
    recorded().clear();
    Kokkos::Tools::Experimental::set_allocate_data_callback(&record);
  }
  AllocationRecorder(const AllocationRecorder&) = delete;
  AllocationRecorder& operator=(const AllocationRecorder&) = delete;
  ~AllocationRecorder() { Kokkos::Tools::Experimental::set_allocate_data_callback(nullptr); }

  /// What has been allocated, without what has a label that begins with one of these.
  std::vector<Allocation> without(const std::vector<std::string>& labels) const {
    std::vector<Allocation> left;
    for (const Allocation& allocation : recorded()) {
      bool leave_out = false;
      for (const std::string& label : labels) leave_out = leave_out || allocation.label.rfind(label, 0) == 0;
      if (!leave_out) left.push_back(allocation);
    }
    return left;
  }

 private:
  static std::vector<Allocation>& recorded() {
    static std::vector<Allocation> all;
    return all;
  }

  static void record(Kokkos::Tools::SpaceHandle space, const char* label, const void*, std::uint64_t bytes) {
    // On a GPU, copies of single numbers for the host: the library's own memory is what is predicted.
    if (std::string_view(space.name) == Kokkos::HostSpace::name() && !std::is_same_v<Memory, Kokkos::HostSpace>) return;
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    recorded().push_back({label, static_cast<std::int64_t>(bytes)});
  }
};

/// Sum of their sizes.
inline std::int64_t total_bytes(const std::vector<Allocation>& allocations) {
  std::int64_t total = 0;
  for (const Allocation& allocation : allocations) total += allocation.bytes;
  return total;
}

inline void PrintTo(const Allocation& allocation, std::ostream* out) {
  *out << allocation.label << " (" << allocation.bytes << " bytes)";
}

/// The prediction is exact, but for the last bytes up to a multiple of eight, and what Kokkos needs for an allocation
/// of nothing.
inline void expect_predicted(std::int64_t predicted, const std::vector<Allocation>& allocations) {
  const std::int64_t allocated = total_bytes(allocations);
  std::int64_t rounding = 0;
  for (const Allocation& allocation : allocations) rounding += allocation.bytes <= 128 ? allocation.bytes : 8;
  EXPECT_GE(allocated, predicted) << ::testing::PrintToString(allocations);
  EXPECT_LE(allocated, predicted + rounding) << ::testing::PrintToString(allocations);
}

}  // namespace bsbr::testing
