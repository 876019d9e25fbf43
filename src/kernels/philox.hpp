// Philox4x32-10, a counter-based random number generator: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

namespace bsbr::kernels {

/// Four words of 32 bits for each of some lanes: counters, and what becomes of them.
template <int lanes = 1>
struct PhiloxWords {
  std::uint32_t word[4][lanes];
};

/// The 128 random bits that belong to a counter in the stream of a key, whose lower half comes first; of each lane by
/// itself. Many lanes vectorise.
template <int lanes>
KOKKOS_INLINE_FUNCTION void philox(PhiloxWords<lanes>& words, std::uint64_t key) {
  constexpr int rounds = 10;
  auto& [x0, x1, x2, x3] = words.word;
  auto key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < rounds; ++round) {
    for (int lane = 0; lane < lanes; ++lane) {
      const std::uint64_t product0 = std::uint64_t{0xd2511f53} * x0[lane],
                          product1 = std::uint64_t{0xcd9e8d57} * x2[lane];
      x0[lane] = static_cast<std::uint32_t>(product1 >> 32) ^ x1[lane] ^ key0;
      x2[lane] = static_cast<std::uint32_t>(product0 >> 32) ^ x3[lane] ^ key1;
      x1[lane] = static_cast<std::uint32_t>(product1);
      x3[lane] = static_cast<std::uint32_t>(product0);
    }
    key0 += 0x9e3779b9;
    key1 += 0xbb67ae85;
  }
}

}  // namespace bsbr::kernels
