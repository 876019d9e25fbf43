// Builds for finding errors (the CMake option BSBR_POISON): what nobody has written is NaN, and what nobody may write
// is watched, since kernels work on raw pointers, which no check of a View's bounds sees. Without the option all of
// this is nothing.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/backend.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define BSBR_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BSBR_ADDRESS_SANITIZER
#endif
#endif
#ifdef BSBR_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace bsbr::kernels {

#ifdef BSBR_POISON
inline constexpr bool poisons = true;
#else
inline constexpr bool poisons = false;
#endif

/// All elements of an array become NaN: before a forward, of what it must write before it reads it.
template <class View>
void poison([[maybe_unused]] const Execution& execution, [[maybe_unused]] const View& array) {
  if constexpr (poisons) {
    using Real = typename View::non_const_value_type;
    Real nan = std::numeric_limits<Real>::quiet_NaN();
    if constexpr (std::is_same_v<Real, float>) nan = __builtin_bit_cast(float, 0x7fffffffU);  // both halves: bfloat16
    Real* data = array.data();
    const Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>> policy(
        execution, 0, static_cast<std::int64_t>(array.size()));
    Kokkos::parallel_for(
        "bsbr::kernels::poison", policy, KOKKOS_LAMBDA(const std::int64_t i) { data[i] = nan; });
  }
}

/// Bytes between a piece of scratch and the next: on a host, where one thread has all of them.
inline constexpr std::int64_t scratch_gap = poisons && on_host ? 64 : 0;

/// Watches the gaps between the pieces of a team's scratch, for as long as it lives. With the address sanitizer,
/// whoever touches one is stopped there and then; without it the program ends when the kernel has ended.
template <bool watches>
class ScratchGuard;

template <>
class ScratchGuard<false> {
 public:
  KOKKOS_INLINE_FUNCTION void watch(char*, std::int64_t) {}
  KOKKOS_INLINE_FUNCTION void watch_gap(const char*, const char*) {}
};

template <>
class ScratchGuard<true> {
 public:
  ScratchGuard() = default;
  ScratchGuard(const ScratchGuard&) = delete;
  ScratchGuard& operator=(const ScratchGuard&) = delete;
  ~ScratchGuard() {
    for (const Gap& gap : m_gaps) require_untouched(gap);
    release();
  }

  /// All scratch of the team: NaN until it is written.
  void watch(char* memory, std::int64_t bytes) {
    m_memory = memory;
    m_bytes = bytes;
    release();
    std::memset(memory, nan_byte, static_cast<std::size_t>(bytes));
  }

  void watch_gap(const char* begin, const char* end) {
    if (m_memory != nullptr && end > m_memory + m_bytes) {
      std::fprintf(stderr, "bsbr: a kernel takes more scratch than it has asked for\n");
      std::abort();
    }
#ifdef BSBR_ADDRESS_SANITIZER
    ASAN_POISON_MEMORY_REGION(begin, end - begin);
#else
    m_gaps.push_back({begin, end});
#endif
  }

 private:
  struct Gap {
    const char *begin, *end;
  };
  static constexpr int nan_byte = 0xff;  // four or eight of them are a NaN

  static void require_untouched(const Gap& gap) {
    for (const char* byte = gap.begin; byte < gap.end; ++byte) {
      if (static_cast<unsigned char>(*byte) == nan_byte) continue;
      std::fprintf(stderr, "bsbr: a kernel has written past the end of a piece of scratch, %d bytes behind it\n",
                   static_cast<int>(byte - gap.begin));
      std::abort();
    }
  }

  /// Whoever has the memory next may use all of it.
  void release() {
#ifdef BSBR_ADDRESS_SANITIZER
    if (m_memory != nullptr) ASAN_UNPOISON_MEMORY_REGION(m_memory, m_bytes);
#endif
  }

  char* m_memory = nullptr;  // null: pieces of a piece, which somebody else watches as a whole
  std::int64_t m_bytes = 0;
  std::vector<Gap> m_gaps;
};

}  // namespace bsbr::kernels
